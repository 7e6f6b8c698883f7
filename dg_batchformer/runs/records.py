"""The files of a run, DomainBed's: records, logs, and the marks that say how it ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import reprlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dg_batchformer.data.benchmarks import path_free
from dg_batchformer.runs.protocols import DOMAINBED

Record = dict[str, Any]

RESULTS, PROGRESS, MODEL, OUT, ERR = "results.jsonl", "progress.jsonl", "model.pkl", "out.txt", "err.txt"
DONE, FAILED = "done", "failed"
WRITTEN = (DONE, FAILED, RESULTS, PROGRESS, OUT, ERR, MODEL)
"""What a run writes under fixed names."""

JOB = "job.json"
"""In each run's folder of a sweep: its arguments, so that the folder says what the sweep consists of."""

ERROR_LINES = 3
TAIL_BYTES = 8192
"""Read at once of the end of a file: a record, or the end of an error."""


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


def is_run(folder: Path) -> bool:
    """Whether a folder among those of a sweep is a run's."""
    return any((folder / name).exists() for name in (JOB, *WRITTEN))


def start(folder: Path) -> bool:
    """Makes the folder of a run, without the files of an earlier one; says whether there were any."""
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [folder / name for name in WRITTEN]
    earlier += folder.glob("model_step*.pkl")
    found = [path for path in earlier if path.exists()]
    for path in found:
        path.unlink()
    return bool(found)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files to which a run adds records."""
    return {name: path.stat().st_size for name in (RESULTS, PROGRESS) if (path := folder / name).exists()}


def cut(folder: Path, wanted: dict[str, int]) -> str:
    """Cuts the files of records to sizes that `sizes` gave, and unmarks a failure; says why where that cannot be.

    A file with lines that are not JSON in what is to be kept is set aside by name.
    """
    present = sizes(folder)
    for name, size in wanted.items():
        if present.get(name, 0) < size:
            return f"{folder / name} has lost records since the state was saved"
    torn = [folder / name for name, size in wanted.items() if not is_json((folder / name).read_bytes()[:size])]
    if torn:
        return "; ".join(f"{path} has lines that are not JSON and was set aside as {set_aside(path)}" for path in torn)
    for name in present:
        os.truncate(folder / name, wanted.get(name, 0))
    (folder / FAILED).unlink(missing_ok=True)
    return ""


def is_json(lines: bytes) -> bool:
    """Whether each line is a JSON value."""
    try:
        for line in lines.splitlines():
            json.loads(line)
    except ValueError:
        return False
    return True


def set_aside(path: Path) -> str:
    """Renames a file of records so that no run reads or replaces it; returns its new name, which its content gives."""
    aside = path.with_name(f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.aside")
    os.replace(path, aside)
    return aside.name


def state_of(folder: Path) -> str:
    """What the marks in a run's folder say: "done", "failed", "incomplete" or "not launched"."""
    if os.path.exists(f"{folder}/{DONE}"):
        return "done"
    if (folder / FAILED).exists():
        return "failed"
    if (folder / OUT).exists() or (folder / RESULTS).exists():
        return "incomplete"
    return "not launched"


def append(path: Path, record: Record) -> None:
    """Adds one record as one line, in one write."""
    line = json.dumps(record, sort_keys=True) + "\n"
    with path.open("ab") as file:
        file.write(line.encode("utf-8"))


def mark(path: Path, text: str) -> None:
    """Writes a small file so that it is there whole or not at all."""
    _put(path, text, os.replace)


def mark_once(path: Path, text: str) -> None:
    """Writes a small file as `mark` does, but where it is there already leaves it: of several at once one succeeds."""
    if path.exists():
        return
    try:
        _put(path, text, os.link)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links: of several at the same instant the last one's stands
        mark(path, text)


def _put(path: Path, text: str, put: Callable[[Path, Path], None]) -> None:
    # Two launchers may write the same.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def other_run(folder: Path, key: RunKey) -> RunKey | None:
    """The run, not that of `key`, of which a folder holds a record, if there is one."""
    for name in sizes(folder):
        for line in (folder / name).read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record_problem(record) is None and RunKey.of(record["args"]) != key:
                    return RunKey.of(record["args"])
    return None


def last_lines(path: Path, n: int = ERROR_LINES) -> list[str]:
    """The last non-empty lines of a log, of which no more is read than it takes."""
    size = TAIL_BYTES
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with file:
        end = file.seek(0, os.SEEK_END)
        while True:
            start = max(0, end - size)
            file.seek(start)
            lines = file.read(end - start).decode("utf-8", errors="replace").splitlines()
            lines = [line for line in lines if line.strip()]
            # The first of them may be half a line.
            if len(lines) > n or start == 0:
                return lines[-n:]
            size *= 4


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
