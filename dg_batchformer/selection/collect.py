"""The runs of sweeps' folders, ours or DomainBed's, each counted once."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dg_batchformer.errors import InputError
from dg_batchformer.runs import records
from dg_batchformer.runs.records import Problem, RunKey
from dg_batchformer.selection import index, parallel
from dg_batchformer.selection.runs import Run
from dg_batchformer.selection.settings import Setting, given_hparams, settings_of

TWICE = "runs that are there twice"
NO_RUN = "folders of which no run counts"
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
    distinct = {path.resolve(): path for path in reversed(folders)}
    readings = {path: [entry.reading for entry in _entries(path)] for path in reversed(distinct.values())}
    for reading in itertools.chain.from_iterable(readings.values()):
        found.problems += reading.problems
        if reading.planned:
            found.planned.append(reading.planned)
    _count([one.run for own in readings.values() for one in own if one.run], found)
    counted = {id(run) for run in found.runs.values()}
    for path, own in readings.items():
        if not any(id(reading.run) in counted for reading in own):
            all_repeat = any(reading.run for reading in own)
            how = "has only runs that other folders have too" if all_repeat else "has no finished run"
            found.problems.append(Problem(NO_RUN, f"{path} {how}"))
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
        changed = any(index.lasting(entry, now_ns) for entry in read.values())
        if path and (changed or len(known) != len(known.keys() & (entries.keys() | read.keys()))):
            index.save(path, input_dir, entries | read, now_ns)
    return [entry for _, entry in sorted((entries | read).items())]


def _is_unchanged(input_dir: Path, name: str, entry: index.Entry) -> bool:
    return index.stamp_of(input_dir, name) == entry.stamp


def _count(runs: Sequence[Run], found: Collected) -> None:
    """Takes runs in, each once."""
    for run, setting in zip(runs, settings_of(runs), strict=True):
        identity = Identity(run.key, setting, given_hparams(run.shared["args"]))
        earlier = found.runs.setdefault(identity, run)
        if earlier is not run:
            alike = all(
                np.array_equal(getattr(run, name), getattr(earlier, name)) for name in ("steps", "inside", "out")
            )
            how = "with the same results" if alike else "with OTHER results"
            text = f"{run.folder} repeats the run of {earlier.folder} {how} and was not counted"
            found.problems.append(Problem(TWICE, text))


def by_kind(problems: Sequence[Problem]) -> dict[str, list[str]]:
    """The texts of problems by their kinds."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem.text)
    return kinds


def summary(problems: Sequence[Problem]) -> list[str]:
    """A line for each kind of problem: how many of it, and the first of them."""
    lines = []
    for kind, own in by_kind(problems).items():
        more = f"; and {len(own) - NAMED} more" if len(own) > NAMED else ""
        lines.append(f"{kind} ({len(own)}): {'; '.join(own[:NAMED])}{more}")
    return lines
