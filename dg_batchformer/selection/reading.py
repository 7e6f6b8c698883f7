"""Reads the folder of one run, finished or not, and says what of it cannot be counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dg_batchformer.runs import records
from dg_batchformer.runs.records import Problem, Record, RunKey
from dg_batchformer.selection import columns
from dg_batchformer.selection.runs import Run, catalogued, count_environments, made

UNFINISHED = "runs without their `done`"
UNUSABLE = "runs marked done without a record that can be counted"
STRANGERS = "records of another run"
INCOMPLETE = "records of more or fewer environments than there are"
NO_ARGS = "descriptions of runs that are none"
ILL_DESCRIBED = "records with a description that is none"
LEFT_OUT = "runs that leave out what no table has"
UNREADABLE = "files that cannot be read"


@dataclass(frozen=True)
class Reading:
    """What a run's folder holds: the run, if it is finished, else the arguments of what is planned; its problems."""

    run: Run | None = None
    planned: dict[str, Any] | None = None
    problems: tuple[Problem, ...] = ()


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(records.is_name, value)) and len(set(value)) == len(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


DESCRIPTION: dict[str, Callable[[Any], bool]] = {
    "hparams": _is_object,
    "environments": _are_names,
    "backbone": records.is_name,
    "weights": records.is_name,
    "data_fingerprint": records.is_name,
    "versions": _is_object,
}
"""What a record may say of how it was made, and how a value is told that can be that."""


def read_folder(folder: Path) -> Reading:
    """The run in a folder, noting what is wrong with it."""
    problems: list[Problem] = []
    try:
        return _ordinary(folder) or _read(folder, problems)
    except OSError as error:
        problems.append(Problem(UNREADABLE, f"{error.filename or folder} cannot be read ({error.strerror})"))
    except RecursionError:
        problems.append(Problem(UNREADABLE, f"{folder} has records that nest too deeply"))
    return Reading(problems=tuple(problems))


def _ordinary(folder: Path) -> Reading | None:
    """The finished run of a folder in which nothing is amiss; None of any other, which `_read` has more to say of."""
    path = str(folder)
    if not os.path.exists(f"{path}/{records.DONE}"):
        return None
    try:
        with open(f"{path}/{records.RESULTS}", "rb", buffering=0) as file:
            found = columns.read(file.read())
    except FileNotFoundError:
        return None
    if found is None or _ill_described(found.last):
        return None
    key, n = RunKey.of(found.last["args"]), count_environments(found.names)
    if not n or n != (len(catalogued(key.dataset)) or n) or _left_out_problem(key.test_envs, n):
        return None
    if os.path.exists(f"{path}/{records.JOB}"):
        planned = _planned_args(folder, [])
        if planned is None or RunKey.of(planned) != key:
            return None
    return Reading(columns.run_of(key, path, found, n))


def _read(folder: Path, problems: list[Problem]) -> Reading:
    planned = _planned_args(folder, problems)
    results = folder / records.RESULTS
    rows: list[Record] | None
    try:
        rows, wrong = records.read(results)
        problems += wrong
    except FileNotFoundError:
        rows = None
    if planned is None and rows:
        planned = rows[-1]["args"]
    if planned and (problem := _left_out_problem(planned["test_envs"], len(catalogued(planned["dataset"])))):
        problems.append(Problem(LEFT_OUT, f"{folder} {problem} and was not counted"))
        return Reading(problems=tuple(problems))
    state = records.state_of(folder)
    run = None
    if state != "done":
        of = f" ({RunKey.of(planned)})" if planned else ""
        problems.append(Problem(UNFINISHED, f"{folder}{of} is {state} and was not counted"))
    elif rows is None:
        problems.append(Problem(UNUSABLE, f"{folder} is marked done but has no {records.RESULTS}"))
    else:
        run = _run_of(folder, planned, rows, problems) if planned else None
        if run is None:
            problems.append(Problem(UNUSABLE, f"{results} has no record that can be counted"))
    return Reading(run, None if run else planned, tuple(problems))


def _run_of(folder: Path, planned: dict[str, Any], rows: list[Record], problems: list[Problem]) -> Run | None:
    """The run of the records that are its own and whole."""
    key = RunKey.of(planned)
    own = [row for row in rows if RunKey.of(row["args"]) == key]
    _note(STRANGERS, folder, len(rows) - len(own), "of another run", problems)
    described = [row for row in own if not _ill_described(row)]
    wrong = ", ".join(dict.fromkeys(name for row in own for name in _ill_described(row)))
    _note(ILL_DESCRIBED, folder, len(own) - len(described), f"with an impossible {wrong}", problems)
    n_environments = len(catalogued(key.dataset)) or max(map(count_environments, described), default=0)
    whole = [row for row in described if count_environments(row) == n_environments]
    without = f"without exactly {n_environments} environments"
    _note(INCOMPLETE, folder, len(described) - len(whole), without, problems)
    if not n_environments or not whole or _left_out_problem(key.test_envs, n_environments):
        return None
    return made(key, str(folder), whole, n_environments)


def _note(kind: str, folder: Path, n: int, what: str, problems: list[Problem]) -> None:
    if n:
        problems.append(
            Problem(kind, f"{folder}: {n} record{'s' * (n > 1)} {what} {'were' if n > 1 else 'was'} skipped")
        )


def _ill_described(record: Record) -> list[str]:
    """The names under which a record has what cannot be a description of how it was made."""
    given = {name: record[name] for name in DESCRIPTION if record.get(name) is not None}
    return [name for name, value in given.items() if not DESCRIPTION[name](value)]


def _left_out_problem(test_envs: Sequence[int], n_environments: int) -> str:
    """Why no table has a run that leaves these out of so many environments (0: not known), or ""."""
    if len(set(test_envs)) < len(test_envs) or len(test_envs) not in (1, 2):
        return f"leaves out {list(test_envs)}, not one environment or two,"
    if n_environments and (max(test_envs) >= n_environments or len(test_envs) == n_environments):
        return f"leaves out {list(test_envs)} of {n_environments} environments"
    return ""


def _planned_args(folder: Path, problems: list[Problem]) -> dict[str, Any] | None:
    """What a run's folder says it is of, where the sweep wrote that down."""
    path = f"{folder}/{records.JOB}"
    try:
        with open(path, encoding="utf-8") as file:
            args: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        problems.append(Problem(NO_ARGS, f"{path} is not a run's arguments ({error}) and was skipped"))
        return None
    if problem := records.args_problem(args):
        problems.append(Problem(NO_ARGS, f"{path} {problem} and was skipped"))
        return None
    return args
