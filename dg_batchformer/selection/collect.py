"""The runs of sweeps' folders, ours or DomainBed's, each counted once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dg_batchformer.errors import InputError
from dg_batchformer.selection import index, parallel
from dg_batchformer.selection.runs import Run
from dg_batchformer.selection.settings import Setting, given_hparams, setting_of
from dg_batchformer.training import records
from dg_batchformer.training.records import Problem, RunKey

TWICE = "runs that are there twice"
NO_RUN = "folders without a finished run"
NAMED = 3
"""Of each kind of problem so many are named where a person reads."""


@dataclass(frozen=True)
class Identity:
    """What tells a run from all others: two of one identity are the same run made twice.

    `given` are the hparams that it was given, as `given_hparams` says.
    """

    key: RunKey
    setting: Setting
    given: str


@dataclass
class Collected:
    """The finished runs of folders, the arguments of those that were planned beside them, and what was passed over."""

    folders: tuple[str, ...] = ()
    runs: dict[Identity, Run] = field(default_factory=dict)
    planned: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def collect(folders: Sequence[Path]) -> Collected:
    """Reads the folders of sweeps; what cannot be counted is among the problems, and costs nothing else.

    InputError where a folder is not there, or is itself a run.
    """
    problems = [problem for folder in folders for problem in _folder_problems(folder)]
    if problems:
        raise InputError("\n".join(problems))
    found = Collected(tuple(map(str, folders)))
    for folder in dict.fromkeys(path.resolve() for path in folders):
        shown = next(path for path in folders if path.resolve() == folder)
        n = len(found.runs)
        for entry in _entries(shown):
            reading = entry.reading
            found.problems += reading.problems
            if reading.planned:
                found.planned.append(reading.planned)
            if reading.run:
                _add(reading.run, found)
        if len(found.runs) == n:
            found.problems.append(Problem(NO_RUN, f"{shown} has no finished run that is not elsewhere too"))
    return found


def _folder_problems(folder: Path) -> list[str]:
    if not folder.is_dir():
        return [f"{folder} is not a folder: expected one with the runs of a sweep"]
    if (folder / records.RESULTS).exists():
        return [f"{folder} is itself a run: give the folder in which it and others lie"]
    return []


def _entries(input_dir: Path) -> list[index.Entry]:
    """All runs of a folder, those that its index has as they were last time; renews the index where it can."""
    known = index.load(input_dir)
    with index.begun(input_dir) as (path, now_ns):
        names = sorted(os.listdir(input_dir))
        entries = {name: known[name] for name in names if name in known and _is_unchanged(input_dir, name, known[name])}
        read = parallel.read(input_dir, [name for name in names if name not in entries])
        changed = any(index.settled(entry.stamp, now_ns) for entry in read.values())
        if path and (changed or len(known) != len(known.keys() & (entries.keys() | read.keys()))):
            index.save(path, input_dir, entries | read, now_ns)
    return [entry for _, entry in sorted((entries | read).items())]


def _is_unchanged(input_dir: Path, name: str, entry: index.Entry) -> bool:
    return index.stamp_of(input_dir, name) == entry.stamp


def _add(run: Run, found: Collected) -> None:
    """Takes a run in, unless the same one is there already."""
    identity = Identity(run.key, setting_of(run), given_hparams(run.shared["args"]))
    earlier = found.runs.setdefault(identity, run)
    if earlier is run:
        return
    alike = all(np.array_equal(getattr(run, name), getattr(earlier, name)) for name in ("steps", "inside", "out"))
    how = "with the same results" if alike else "with OTHER results"
    found.problems.append(Problem(TWICE, f"{run.folder} repeats the run of {earlier.folder} {how} and was not counted"))


def summary(problems: Sequence[Problem]) -> list[str]:
    """A line for each kind of problem: how many, and the first of them by name."""
    lines = []
    for kind, n in Counter(problem.kind for problem in problems).items():
        own = [problem.text for problem in problems if problem.kind == kind]
        more = f"; and {n - NAMED} more" if n > NAMED else ""
        lines.append(f"{n} {kind}: {'; '.join(own[:NAMED])}{more}")
    return lines
