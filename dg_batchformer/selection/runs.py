"""Finished runs of sweep folders, ours or DomainBed's, and the runs that were planned."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dg_batchformer.data.benchmarks import BENCHMARKS, path_free
from dg_batchformer.errors import InputError
from dg_batchformer.jobs.plan import DONE, JOB, state_of
from dg_batchformer.training import records


@dataclass(frozen=True, order=True)
class RunKey:
    """Which run of a sweep: what its row and column in the table follow from."""

    dataset: str
    algorithm: str
    test_envs: tuple[int, ...]
    trial_seed: int
    hparams_seed: int

    @classmethod
    def of(cls, args: dict[str, Any]) -> RunKey:
        return cls(
            path_free(args["dataset"]),
            args["algorithm"],
            tuple(args["test_envs"]),
            args["trial_seed"],
            args["hparams_seed"],
        )


@dataclass(frozen=True)
class Run:
    """A finished run and its records by rising step."""

    key: RunKey
    records: list[records.Record]

    @property
    def n_environments(self) -> int:
        return sum(f"env{i}_out_acc" in self.records[0] for i in range(len(self.records[0])))


@dataclass
class Collected:
    """The finished runs of a folder, all that are known to be planned, and what was passed over and why."""

    runs: list[Run] = field(default_factory=list)
    planned: set[RunKey] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def collect(input_dir: Path) -> Collected:
    """Reads the folder of a sweep; runs without their `done` are planned, not counted."""
    if not input_dir.is_dir():
        raise InputError(f"{input_dir} is not a folder: expected one with the runs of a sweep")
    found = Collected()
    unfinished = 0
    seen: dict[RunKey, Path] = {}
    for folder in sorted(path for path in input_dir.iterdir() if path.is_dir()):
        args = _planned_args(folder, found)
        done = state_of(folder) == DONE
        unfinished += not done
        if not (folder / records.RESULTS).exists():
            if done:
                found.problems.append(f"{folder} is marked done but has no {records.RESULTS}")
            continue
        read, problems = records.read(folder / records.RESULTS)
        found.problems += problems
        if not read:
            continue
        key = RunKey.of(args or read[-1]["args"])
        found.planned.add(key)
        own = [record for record in read if RunKey.of(record["args"]) == key]
        if len(own) < len(read):
            found.problems.append(f"{folder}: {len(read) - len(own)} records of another run were skipped")
        if not done:
            continue
        if key in seen:
            found.problems.append(f"{folder} repeats the run of {seen[key]} and was not counted")
            continue
        seen[key] = folder
        found.runs.append(Run(key, own))
    if unfinished:
        found.problems.append(f"{unfinished} of the runs are not finished and were not counted")
    return found


def _planned_args(folder: Path, found: Collected) -> dict[str, Any] | None:
    """What a run's folder says it is of, where the sweep wrote that down."""
    path = folder / JOB
    if not path.exists():
        return None
    try:
        args: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found.planned.add(RunKey.of(args))
    except (ValueError, KeyError, TypeError) as error:
        found.problems.append(f"{path} is not a run's arguments ({error}) and was skipped")
        return None
    return args


def environment_names(run: Run) -> tuple[str, ...]:
    """The environments of a run's dataset by DomainBed's names, else by their numbers."""
    if run.key.dataset in BENCHMARKS:
        return BENCHMARKS[run.key.dataset].environments
    return tuple(run.records[0].get("environments", map(str, range(run.n_environments))))
