"""The runs of sweeps' folders, ours or DomainBed's, each counted once."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dg_batchformer import machine
from dg_batchformer.errors import InputError
from dg_batchformer.runs.files import RESULTS
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.runs.records import Problem, RunKey
from dg_batchformer.selection.given import given_hparams
from dg_batchformer.selection.read import FinishedRun, Reading, read_folder
from dg_batchformer.selection.settings import Setting, settings_of

TWICE = "runs that are there twice"
NO_RUN = "folders without a finished run of their own"
NAMED = 3
"""Of each kind of problem so many are named where a person reads."""

FEWEST = 2000
"""Folders that a process must have to read for its start to pay."""


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
    runs: dict[Identity, FinishedRun] = field(default_factory=dict)
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
    runs: dict[Path, list[FinishedRun]] = {}
    for path in reversed(distinct.values()):
        readings = _read_all([path / name for name in sorted(os.listdir(path))])
        found.problems += [problem for reading in readings for problem in reading.problems]
        found.planned += [reading.planned for reading in readings if reading.planned]
        runs[path] = [reading.run for reading in readings if reading.run]
    _count([run for own in runs.values() for run in own], found)
    counted = {id(run) for run in found.runs.values()}
    for path, own in runs.items():
        if counted.isdisjoint(map(id, own)):
            how = "has only runs that other folders have too" if own else "has no finished run"
            found.problems.append(Problem(NO_RUN, f"{path} {how}"))
    return found


def _folder_problems(folder: Path) -> list[str]:
    if not folder.is_dir():
        return [f"{folder} is not a folder: expected one with the runs of a sweep"]
    if (folder / RESULTS).exists():
        return [f"{folder} is itself a run: give the folder in which it and others lie"]
    return []


def _read_all(paths: Sequence[Path]) -> list[Reading]:
    """What lies at each of some paths, read in as many processes as pay."""
    n_processes = min(machine.available_cores(), len(paths) // FEWEST)
    if n_processes > 1:
        try:
            with ProcessPoolExecutor(n_processes) as pool:
                return list(pool.map(_reading, paths, chunksize=250))
        except (OSError, BrokenProcessPool, RecursionError):  # no room for them, or values that nest too deeply
            pass
    return list(map(_reading, paths))


def _reading(path: Path) -> Reading:
    """The run at a path; what is no run's folder has none."""
    folder = RunFolder(path)
    try:
        is_run = folder.is_done or folder.is_run  # the first is fast
    except OSError:  # it may be one, and reading it says what is wrong
        is_run = True
    return read_folder(path) if is_run else Reading()


def _count(runs: Sequence[FinishedRun], found: Collected) -> None:
    """Takes runs in, each once."""
    for run, setting in zip(runs, settings_of(runs), strict=True):
        identity = Identity(run.key, setting, given_hparams(run.args))
        earlier = found.runs.setdefault(identity, run)
        if earlier is not run:
            pairs = [(getattr(run, name), getattr(earlier, name)) for name in ("steps", "inside", "out")]
            alike = all(np.array_equal(one, other) for one, other in pairs)
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
