"""Reads the folder of one run, finished or not, and says what of it cannot be counted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.selection.runs import DOMAINBED_ENVIRONMENTS, Run, accuracies, count_environments, made
from dg_batchformer.training import records
from dg_batchformer.training.records import Problem, Record, RunKey

UNFINISHED = "runs without their `done`"
UNUSABLE = "runs marked done without a record that can be counted"
STRANGERS = "records of another run"
INCOMPLETE = "records without all environments"
NO_ARGS = "descriptions of runs that are none"
UNREADABLE = "files that cannot be read"


@dataclass(frozen=True)
class Reading:
    """What a run's folder holds: the run, if it is finished, else the arguments of what is planned; its problems."""

    run: Run | None = None
    planned: dict[str, Any] | None = None
    problems: tuple[Problem, ...] = ()


def read_folder(folder: Path) -> Reading:
    """The run in a folder, noting what is wrong with it."""
    problems: list[Problem] = []
    try:
        return _read(folder, problems)
    except OSError as error:
        problems.append(Problem(UNREADABLE, f"{folder} cannot be read ({error})"))
        return Reading(problems=tuple(problems))


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
    state = records.state_of(folder)
    if state != "done":
        of = f" ({RunKey.of(planned)})" if planned else ""
        problems.append(Problem(UNFINISHED, f"{folder}{of} is {state} and was not counted"))
        return Reading(planned=planned, problems=tuple(problems))
    if rows is None:
        problems.append(Problem(UNUSABLE, f"{folder} is marked done but has no {records.RESULTS}"))
        return Reading(planned=planned, problems=tuple(problems))
    run = _run_of(folder, planned, rows, problems) if planned else None
    if run is None:
        problems.append(Problem(UNUSABLE, f"{results} has no record that can be counted"))
    return Reading(run, None if run else planned, tuple(problems))


def _run_of(folder: Path, planned: dict[str, Any], rows: list[Record], problems: list[Problem]) -> Run | None:
    """The run of the records that are its own and whole."""
    key = RunKey.of(planned)
    # Where nothing is amiss all rows have one object.
    args = {id(row["args"]): row["args"] for row in rows}
    is_own = {number: RunKey.of(one) == key for number, one in args.items()}
    own = [row for row in rows if is_own[id(row["args"])]]
    if len(own) < len(rows):
        text = f"{folder}: {len(rows) - len(own)} records of another run were skipped"
        problems.append(Problem(STRANGERS, text))
    n_environments = known_environments(key.dataset) or max(map(count_environments, own), default=0)
    names = accuracies(n_environments)
    whole = [row for row in own if names <= row.keys()]
    if len(whole) < len(own):
        text = f"{folder}: {len(own) - len(whole)} records without all {n_environments} environments were skipped"
        problems.append(Problem(INCOMPLETE, text))
    if not whole or max(key.test_envs, default=0) >= n_environments:
        return None
    return made(key, str(folder), whole, n_environments)


def known_environments(dataset: str) -> int:
    """How many environments a dataset of the catalogue has; 0 for others."""
    if dataset in BENCHMARKS:
        return len(BENCHMARKS[dataset].environments)
    return len(DOMAINBED_ENVIRONMENTS.get(dataset, ()))


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
