"""The records of a run, DomainBed's: what they hold, and what is wrong with them."""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dg_batchformer.data.benchmarks import path_free
from dg_batchformer.runs import files
from dg_batchformer.runs.protocols import DOMAINBED

Record = dict[str, Any]

# Until the readers of selection take them from `files`.
RESULTS, PROGRESS, DONE, JOB = files.RESULTS, files.PROGRESS, files.DONE, files.JOB


def state_of(folder: Path) -> str:
    """What the marks in a run's folder say: "done", "failed", "incomplete" or "not launched"."""
    if (folder / files.DONE).exists():
        return "done"
    if (folder / files.FAILED).exists():
        return "failed"
    return "incomplete" if (folder / files.OUT).exists() or (folder / files.RESULTS).exists() else "not launched"


def is_run(folder: Path) -> bool:
    """Whether a folder among those of a sweep is a run's."""
    return any((folder / name).exists() for name in (files.JOB, *files.WRITTEN))


@dataclass(frozen=True, order=True)
class RunKey:
    """Which run of a sweep: what its row and column in the table follow from."""

    dataset: str
    algorithm: str
    test_envs: tuple[int, ...]
    trial_seed: int
    hparams_seed: int
    protocol: str = DOMAINBED

    @classmethod
    def of(cls, args: dict[str, Any]) -> RunKey:
        return cls(
            path_free(args["dataset"]),
            args["algorithm"],
            tuple(args["test_envs"]),
            args["trial_seed"],
            args["hparams_seed"],
            args.get("protocol", DOMAINBED),
        )

    def __str__(self) -> str:
        protocol = f", protocol {self.protocol}" if self.protocol != DOMAINBED else ""
        return (
            f"{self.algorithm} on {self.dataset}, test_envs {list(self.test_envs)}, trial_seed {self.trial_seed}, "
            f"hparams_seed {self.hparams_seed}{protocol}"
        )


@dataclass(frozen=True)
class Problem:
    """Something of a run that is not counted: what kind of thing it is, and which one."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


TORN = "lines that are not whole records"
FOREIGN = "lines that are not records of a run"
OUT_OF_RANGE = "records with an accuracy that is none"
REPEATED = "steps recorded more than once"


def read(path: Path) -> tuple[list[Record], list[Problem]]:
    """The records of a `results.jsonl` by rising step, one a step (the last written), and what was passed over."""
    by_step: dict[int, Record] = {}
    problems = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            problems.append(Problem(TORN, f"{path}:{number} is not a whole record and was skipped"))
            continue
        if problem := record_problem(record):
            problems.append(Problem(problem.kind, f"{path}:{number} {problem} and was skipped"))
            continue
        if record["step"] in by_step:
            text = f"{path}:{number} repeats step {record['step']}, which counts once"
            problems.append(Problem(REPEATED, text))
        by_step[record["step"]] = record
    return [by_step[step] for step in sorted(by_step)], problems


LARGEST = 2**63 - 1
"""The largest count that a record may have."""


def args_problem(args: Any) -> Problem | None:
    """Why the arguments of a run cannot be those of one, or None."""
    needed = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")
    if not isinstance(args, dict) or any(name not in args for name in needed):
        return Problem(FOREIGN, f"lacks args ({', '.join(needed)})")
    environments = args["test_envs"]
    if (
        not all(is_name(args.get(name, DOMAINBED)) for name in (*needed[:2], "protocol"))
        or not all(_is_count(args[name]) for name in needed[3:])
        or not isinstance(environments, list)
        or not all(_is_count(i) for i in environments)
    ):
        return Problem(FOREIGN, "has args that are not of a run")
    return None


def record_problem(record: Any) -> Problem | None:
    """Why a line cannot be counted, or None."""
    if not isinstance(record, dict) or not _is_count(record.get("step")):
        return Problem(FOREIGN, "has no step")
    if problem := args_problem(record.get("args")):
        return problem
    for name, value in record.items():
        if name.endswith("_acc") and not (type(value) in (int, float) and 0 <= value <= 1):
            return Problem(OUT_OF_RANGE, f"has {name} {reprlib.repr(value)}, not an accuracy,")
    return None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def is_name(value: Any) -> bool:
    """Whether a value can stand for itself in a table."""
    return isinstance(value, str) and value.isprintable()
