"""Finished runs of sweep folders, ours or DomainBed's, and the runs that were planned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.errors import InputError
from dg_batchformer.training import records
from dg_batchformer.training.records import RunKey

DOMAINBED_ENVIRONMENTS = {
    "RotatedMNIST": ("0", "15", "30", "45", "60", "75"),
    "ColoredMNIST": ("+90%", "+80%", "-90%"),
    "DomainNet": ("clip", "info", "paint", "quick", "real", "sketch"),
    "SVIRO": ("aclass", "escape", "hilux", "i3", "lexus", "tesla", "tiguan", "tucson", "x5", "zoe"),
}
"""Of datasets that DomainBed alone runs; its records name no environment."""


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
    """Reads the folder of a sweep; runs without their `done` are planned, not counted.

    InputError where two runs differ in their settings alone: which of them a cell should show nobody can say.
    """
    if not input_dir.is_dir():
        raise InputError(f"{input_dir} is not a folder: expected one with the runs of a sweep")
    if (input_dir / records.RESULTS).exists():
        raise InputError(f"{input_dir} is itself a run: give the folder in which it and others lie")
    found = Collected()
    unfinished = 0
    folders: dict[RunKey, Path] = {}
    for folder in sorted(path for path in input_dir.iterdir() if records.is_run(path)):
        run = _read(folder, found)
        if records.state_of(folder) != "done":
            unfinished += 1
        elif run and run.key in folders:
            _repeated(folder, run, folders[run.key], found)
        elif run:
            folders[run.key] = folder
            found.runs.append(run)
    if unfinished:
        found.problems.append(f"{unfinished} of the runs are not finished and were not counted")
    return found


def _read(folder: Path, found: Collected) -> Run | None:
    """The run in a folder, finished or not, noting what it plans and what is wrong with it."""
    args = _planned_args(folder, found)
    if not (folder / records.RESULTS).exists():
        if records.state_of(folder) == "done":
            found.problems.append(f"{folder} is marked done but has no {records.RESULTS}")
        return None
    read, problems = records.read(folder / records.RESULTS)
    found.problems += problems
    if not read:
        found.problems.append(f"{folder / records.RESULTS} has no record that can be counted")
        return None
    key = RunKey.of(args or read[-1]["args"])
    found.planned.add(key)
    accuracies = {name for name in read[0] if name.endswith("_acc")}
    own = [record for record in read if RunKey.of(record["args"]) == key and accuracies <= record.keys()]
    if len(own) < len(read):
        found.problems.append(
            f"{folder}: {len(read) - len(own)} records of another run, or without its environments, were skipped"
        )
    return Run(key, own) if own else None


def _repeated(folder: Path, run: Run, earlier: Path, found: Collected) -> None:
    """Notes a run that is there twice; raises InputError where the two are not of the same settings."""
    kept = next(one for one in found.runs if one.key == run.key)
    # DomainBed's records, and our older ones, lack the last three.
    usual = {"precision": "fp32", "compile": False, "skip_corrupt": False}
    for name in ("steps", "checkpoint_freq", "holdout_fraction", "hparams", *usual):
        values = [one.records[-1]["args"].get(name, usual.get(name)) for one in (kept, run)]
        if values[0] != values[1]:
            raise InputError(
                f"{earlier} and {folder} are one run with different settings ({name} {values[0]} and {values[1]}): "
                "expected one sweep in a folder"
            )
    found.problems.append(f"{folder} repeats the run of {earlier} and was not counted")


def _planned_args(folder: Path, found: Collected) -> dict[str, Any] | None:
    """What a run's folder says it is of, where the sweep wrote that down."""
    path = folder / records.JOB
    if not path.exists():
        return None
    try:
        args: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found.planned.add(RunKey.of(args))
    except (ValueError, KeyError, TypeError) as error:
        found.problems.append(f"{path} is not a run's arguments ({error}) and was skipped")
        return None
    return args


def environment_names(dataset: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """The environments of a dataset by DomainBed's names, else by those in its runs, else by number."""
    if dataset in BENCHMARKS:
        return BENCHMARKS[dataset].environments
    if dataset in DOMAINBED_ENVIRONMENTS:
        return DOMAINBED_ENVIRONMENTS[dataset]
    for run in runs:
        return tuple(run.records[0].get("environments", map(str, range(run.n_environments))))
    return ()
