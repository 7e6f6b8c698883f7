"""The runs in the folders of sweeps, ours or DomainBed's, each counted once; a problem names each skipped one."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dg_batchformer import machine
from dg_batchformer.errors import InputError
from dg_batchformer.runs import records
from dg_batchformer.runs.files import JOB, RESULTS
from dg_batchformer.runs.folder import RunFolder, State
from dg_batchformer.runs.records import Checkpoint, Problem, RunKey
from dg_batchformer.selection.methods import FinishedRun
from dg_batchformer.selection.settings import RowKey, Setting, environment_names, given_hparams, settings_of

UNFINISHED = "unfinished runs"
UNUSABLE = "finished runs without a valid record"
STRANGERS = "records of another run"
INCOMPLETE = "records without the right accuracies"
NO_ARGS = "invalid job.json"
ILL_DESCRIBED = "records with invalid metadata"
LEFT_OUT = "invalid test_envs"
UNREADABLE = "unreadable files"
TWICE = "duplicate runs"
NO_RUN = "folders without a finished run"

NAMED = 3  # problems of each kind in a summary
FEWEST = 2000  # folders for which another process pays off


class Identity(NamedTuple):
    """The identity of a run: two runs with the same one are duplicates."""

    setting: Setting
    row: RowKey
    key: RunKey


@dataclass
class Collected:
    """The finished runs of folders, the arguments of planned runs, and the problems."""

    folders: tuple[str, ...] = ()
    runs: dict[Identity, FinishedRun] = field(default_factory=dict)
    planned: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def collect(folders: Sequence[Path]) -> Collected:
    """Reads the folders of sweeps; an invalid run or file becomes a problem and stops nothing.

    InputError if a folder is missing or is the folder of a single run.
    """
    if problems := [problem for folder in folders if (problem := _folder_problem(folder))]:
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


def _folder_problem(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder: expected one with the runs of a sweep"
    if (folder / RESULTS).exists():
        return f"{folder} is the folder of a single run: give the folder that contains it"
    return ""


def _count(runs: Sequence[FinishedRun], found: Collected) -> None:
    """Adds runs to the collection, each once."""
    for run, setting in zip(runs, settings_of(runs), strict=True):
        row = RowKey(run.key.algorithm, given_hparams(run.args).algorithm)
        earlier = found.runs.setdefault(Identity(setting, row, run.key), run)
        if earlier is not run:
            pairs = (run.steps, earlier.steps), (run.inside, earlier.inside), (run.out, earlier.out)
            how = "with the same results" if all(np.array_equal(*pair) for pair in pairs) else "with OTHER results"
            text = f"{run.folder} repeats the run of {earlier.folder} {how}: not counted"
            found.problems.append(Problem(TWICE, text))


@dataclass
class Reading:
    """The content of a run's folder: the finished run, or the arguments of a planned one; and the problems."""

    run: FinishedRun | None = None
    planned: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)

    def note(self, kind: str, text: str) -> None:
        self.problems.append(Problem(kind, text))

    def note_skipped(self, kind: str, folder: RunFolder, n: int, what: str) -> None:
        """Notes that `n` records were skipped, if any."""
        if n:
            self.note(kind, f"{folder}: {n} record{'s' * (n > 1)} {what} {'were' if n > 1 else 'was'} skipped")


def _read_all(paths: Sequence[Path]) -> list[Reading]:
    """Reads the folders at some paths, in several processes if that is faster."""
    n_processes = min(machine.available_cores(), len(paths) // FEWEST)
    if n_processes > 1:
        try:
            with ProcessPoolExecutor(n_processes) as pool:
                return list(pool.map(_read_path, paths, chunksize=250))
        except (OSError, BrokenProcessPool, RecursionError):  # no memory for them, or values nested too deeply
            pass
    return list(map(_read_path, paths))


def _read_path(path: Path) -> Reading:
    """Reads one path; a path that is not a run's folder gives an empty reading."""
    folder = RunFolder(path)
    try:
        is_run = folder.is_done or folder.is_run  # the first is fast
    except OSError:  # it may be one: reading it finds the error
        is_run = True
    return read_folder(path) if is_run else Reading()


def read_folder(path: Path) -> Reading:
    """The run in a folder, with its problems."""
    reading = Reading()
    try:
        _read(RunFolder(path), reading)
    except OSError as error:
        reading.note(UNREADABLE, f"{error.filename or path} cannot be read ({error.strerror})")
    except RecursionError:
        reading.note(UNREADABLE, f"{path} has records nested too deeply")
    return reading


def _read(folder: RunFolder, reading: Reading) -> None:
    planned = _planned_args(folder, reading)
    results = folder / RESULTS
    rows: list[Checkpoint] | None = None
    try:
        rows, problems = records.read(results)
        reading.problems += problems
    except FileNotFoundError:
        pass
    if planned is None and rows:
        planned = rows[-1].about.record["args"]
    key = RunKey.from_args(planned) if planned else None
    if key and (problem := _left_out_problem(key.test_envs, len(environment_names(key.dataset)))):
        reading.note(LEFT_OUT, f"{folder} {problem}: not counted")
        return
    if not folder.is_done:
        state = "failed" if folder.marked is State.FAILED else "incomplete" if folder.begun else "not launched"
        of = f" ({key})" if key else ""
        reading.note(UNFINISHED, f"{folder}{of} is {state}: not counted")
    elif rows is None:
        reading.note(UNUSABLE, f"{folder} is marked done but has no {RESULTS}")
    elif key and (own := _countable(folder, key, rows, reading)):
        reading.run = FinishedRun.from_records(str(folder), own)
        return
    else:
        reading.note(UNUSABLE, f"{results} has no valid record")
    reading.planned = planned


def _countable(folder: RunFolder, key: RunKey, rows: Sequence[Checkpoint], reading: Reading) -> list[Checkpoint]:
    """The complete records of this run; empty if no table could show it."""
    own = [row for row in rows if row.about.key == key]
    reading.note_skipped(STRANGERS, folder, len(rows) - len(own), "of another run")
    described = [row for row in own if not row.about.invalid]
    if len(described) < len(own):
        invalid = ", ".join(dict.fromkeys(name for row in own for name in row.about.invalid))
        reading.note_skipped(ILL_DESCRIBED, folder, len(own) - len(described), f"with invalid {invalid}")
    n = len(environment_names(key.dataset)) or max((row.about.n_environments for row in described), default=0)
    whole = [row for row in described if row.about.n_environments == n]
    reading.note_skipped(INCOMPLETE, folder, len(described) - len(whole), f"without exactly {n} environments")
    usable = [row for row in whole if row.about.is_usable]
    how = (
        "with test splits although an environment is left out" if key.test_envs else "without accuracies on test splits"
    )
    reading.note_skipped(INCOMPLETE, folder, len(whole) - len(usable), how)
    return [] if not n or _left_out_problem(key.test_envs, n) else usable


def _left_out_problem(test_envs: Sequence[int], n_environments: int) -> str:
    """Why no table has a run with these left-out environments, or ""; `n_environments` is 0 if unknown."""
    if len(set(test_envs)) < len(test_envs):
        return f"leaves out {list(test_envs)} (expected different environments)"
    if n_environments and test_envs and (max(test_envs) >= n_environments or len(test_envs) == n_environments):
        return f"leaves out {list(test_envs)} of {n_environments} environments"
    return ""


def _planned_args(folder: RunFolder, reading: Reading) -> dict[str, Any] | None:
    """The arguments in the `job.json` of a run's folder; None if missing or invalid."""
    path, args = f"{folder}/{JOB}", None
    try:
        with open(path, encoding="utf-8") as file:
            args = json.load(file)
        problem = str(records.args_problem(args) or "")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        problem = f"is invalid ({error})"
    if problem:
        reading.note(NO_ARGS, f"{path} {problem}: skipped")
    return None if problem else args


def by_kind(problems: Sequence[Problem]) -> dict[str, list[str]]:
    """The texts of problems by kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem.text)
    return kinds


def summary(problems: Sequence[Problem]) -> list[str]:
    """A line for each kind of problem: the number, and the first ones."""
    lines = []
    for kind, own in by_kind(problems).items():
        more = f"; and {len(own) - NAMED} more" if len(own) > NAMED else ""
        lines.append(f"{kind} ({len(own)}): {'; '.join(own[:NAMED])}{more}")
    return lines
