"""A finished run as the table needs it, and how it is read from its folder, noting what cannot be counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.runs import records
from dg_batchformer.runs.files import JOB, RESULTS
from dg_batchformer.runs.folder import RunFolder, State
from dg_batchformer.runs.records import Checkpoint, Problem, RunKey

Floats = npt.NDArray[np.float64]

UNFINISHED = "runs without their `done`"
UNUSABLE = "runs marked done without a record that can be counted"
STRANGERS = "records of another run"
INCOMPLETE = "records of more or fewer environments than there are"
NO_ARGS = "invalid job descriptions"
ILL_DESCRIBED = "records with an invalid description"
LEFT_OUT = "runs with invalid test_envs"
UNREADABLE = "files that cannot be read"

DOMAINBED_ENVIRONMENTS = {
    "RotatedMNIST": ("0", "15", "30", "45", "60", "75"),
    "ColoredMNIST": ("+90%", "+80%", "-90%"),
    "DomainNet": ("clip", "info", "paint", "quick", "real", "sketch"),
    "SVIRO": ("aclass", "escape", "hilux", "i3", "lexus", "tesla", "tiguan", "tucson", "x5", "zoe"),
}
"""Of datasets that DomainBed alone runs; its records name no environment."""

MADE = ("backbone", "weights", "data_fingerprint", "skipped_images", "versions", "environments", "swad_window")
"""Names under which a record says how it was made."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run with its checkpoints by rising step.

    `steps` is (checkpoints,), and `accuracies`, shares, are (checkpoints, 3, environments), in `Checkpoint`'s order.
    `args`, `hparams` and what its records say under `MADE` are those of the last checkpoint.
    """

    key: RunKey
    folder: str
    steps: npt.NDArray[np.int64]
    accuracies: Floats
    args: dict[str, Any]
    hparams: dict[str, Any]
    made: dict[str, Any]

    @classmethod
    def from_records(cls, folder: str, records: Sequence[Checkpoint]) -> FinishedRun:
        """The run of some records, by rising step, that have one key and number of environments."""
        about = records[-1].about
        record = about.record
        hparams = record.get("hparams")
        return cls(
            about.key,
            folder,
            np.array([one.step for one in records], dtype=np.int64),
            np.array([one.accuracies for one in records], dtype=np.float64).reshape(-1, 3, about.n_environments),
            record["args"],
            hparams if isinstance(hparams, dict) else {},
            {name: record[name] for name in MADE if name in record},
        )

    @property
    def inside(self) -> Floats:
        """(checkpoints, environments): accuracies on the in-splits."""
        return self.accuracies[:, 0]

    @property
    def out(self) -> Floats:
        """The same on the out-splits."""
        return self.accuracies[:, 1]

    @property
    def macro(self) -> Floats:
        """Those on the in-splits averaged over classes, NaN where the records have none."""
        return self.accuracies[:, 2]

    @property
    def n_environments(self) -> int:
        return self.accuracies.shape[2]


def catalogued(dataset: str) -> tuple[str, ...]:
    """DomainBed's names of a dataset's environments; none of one that the catalogue has not."""
    if dataset in BENCHMARKS:
        return BENCHMARKS[dataset].environments
    return DOMAINBED_ENVIRONMENTS.get(dataset, ())


def environment_names(dataset: str, runs: Sequence[FinishedRun]) -> tuple[str, ...]:
    """The environments of a dataset by DomainBed's names, else by those in its runs, else by number."""
    if known := catalogued(dataset):
        return known
    for run in runs:
        names = run.made.get("environments") or ()
        if len(names) == run.n_environments:
            return tuple(names)
    return tuple(map(str, range(runs[0].n_environments))) if runs else ()


@dataclass(frozen=True)
class Reading:
    """What a run's folder holds: the run, if it is finished, else the arguments of what is planned; its problems."""

    run: FinishedRun | None = None
    planned: dict[str, Any] | None = None
    problems: tuple[Problem, ...] = ()


def read_folder(path: Path) -> Reading:
    """The run in a folder, with what is wrong with it."""
    problems: list[Problem] = []
    try:
        run, planned = _read(RunFolder(path), problems)
        return Reading(run, planned, tuple(problems))
    except OSError as error:
        problems.append(Problem(UNREADABLE, f"{error.filename or path} cannot be read ({error.strerror})"))
    except RecursionError:
        problems.append(Problem(UNREADABLE, f"{path} has records that nest too deeply"))
    return Reading(problems=tuple(problems))


def _read(folder: RunFolder, problems: list[Problem]) -> tuple[FinishedRun | None, dict[str, Any] | None]:
    """A finished run, or the arguments of one that is planned."""
    planned = _planned_args(folder, problems)
    results = folder / RESULTS
    rows: list[Checkpoint] | None
    try:
        rows, wrong = records.read(results)
        problems += wrong
    except FileNotFoundError:
        rows = None
    if planned is None and rows:
        planned = rows[-1].about.record["args"]
    key = RunKey.from_args(planned) if planned else None
    if key and (problem := _left_out_problem(key.test_envs, len(catalogued(key.dataset)))):
        problems.append(Problem(LEFT_OUT, f"{folder} {problem} and was not counted"))
        return None, None
    if not folder.is_done:
        state = "failed" if folder.marked is State.FAILED else "incomplete" if folder.begun else "not launched"
        of = f" ({key})" if key else ""
        problems.append(Problem(UNFINISHED, f"{folder}{of} is {state} and was not counted"))
    elif rows is None:
        problems.append(Problem(UNUSABLE, f"{folder} is marked done but has no {RESULTS}"))
    elif key and (own := _countable(folder, key, rows, problems)):
        return FinishedRun.from_records(str(folder), own), None
    else:
        problems.append(Problem(UNUSABLE, f"{results} has no record that can be counted"))
    return None, planned


def _countable(folder: RunFolder, key: RunKey, rows: Sequence[Checkpoint], problems: list[Problem]) -> list[Checkpoint]:
    """The records that are a run's own and whole; none where no table has such a run."""
    own = [row for row in rows if row.about.key == key]
    _note(STRANGERS, folder, len(rows) - len(own), "of another run", problems)
    described = [row for row in own if not row.about.invalid]
    if len(described) < len(own):
        invalid = ", ".join(dict.fromkeys(name for row in own for name in row.about.invalid))
        _note(ILL_DESCRIBED, folder, len(own) - len(described), f"with an impossible {invalid}", problems)
    n = len(catalogued(key.dataset)) or max((row.about.n_environments for row in described), default=0)
    whole = [row for row in described if row.about.n_environments == n]
    _note(INCOMPLETE, folder, len(described) - len(whole), f"without exactly {n} environments", problems)
    return [] if not n or _left_out_problem(key.test_envs, n) else whole


def _note(kind: str, folder: RunFolder, n: int, what: str, problems: list[Problem]) -> None:
    if n:
        problems.append(
            Problem(kind, f"{folder}: {n} record{'s' * (n > 1)} {what} {'were' if n > 1 else 'was'} skipped")
        )


def _left_out_problem(test_envs: Sequence[int], n_environments: int) -> str:
    """Why no table has a run that leaves these out of so many environments (0: not known), or ""."""
    if len(set(test_envs)) < len(test_envs) or len(test_envs) not in (1, 2):
        return f"leaves out {list(test_envs)}, not one environment or two,"
    if n_environments and (max(test_envs) >= n_environments or len(test_envs) == n_environments):
        return f"leaves out {list(test_envs)} of {n_environments} environments"
    return ""


def _planned_args(folder: RunFolder, problems: list[Problem]) -> dict[str, Any] | None:
    """What a run's folder says it is of, where the sweep wrote that down."""
    path = f"{folder}/{JOB}"
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
