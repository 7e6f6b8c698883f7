"""Finished runs, and the selection methods (checkpoint and hyper-parameters) as pure functions.

Each method takes the finished runs of one algorithm in one trial that leave environment `env` out, alone (`singles`) or
with another (`pairs`). It returns for each single, where possible, the selected checkpoint and its validation value.
The reported accuracy is always on the in-split of `env`. Runs that leave no environment out are singles of every one,
tested on its test split. The first two and the last method are DomainBed's; ties go, as
there, to the earliest checkpoint and to the highest hparams_seed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dg_batchformer.runs.arguments import training_envs
from dg_batchformer.runs.details import detail_name
from dg_batchformer.runs.records import TEST, Checkpoint, RunKey

Floats = npt.NDArray[np.float64]

MADE = (
    *("backbone", "weights", "data_fingerprint", "skipped_images", "versions", "environments", "swad_window"),
    *("classes", "class_counts", "split_file"),
)
"""The names in a record that tell how it was made."""


Envs = tuple[int, ...]
"""The numbers of the environments of a column: one, or a set that was left out together."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run with its checkpoints by rising step.

    `steps` is (checkpoints,). Accuracies in [0, 1] are (checkpoints, environments): on the in-splits (on the test
    splits if no environment is left out), on the out-splits, and `macro`, the first averaged over classes (NaN if not
    recorded). Under --imbalance all are averaged over classes. `args`, `hparams` and the values of `MADE` are from the
    last checkpoint; `details` has the values of `runs.details` of each checkpoint, empty if none has any.
    """

    key: RunKey
    folder: str
    steps: npt.NDArray[np.int64]
    inside: Floats
    out: Floats
    macro: Floats
    args: dict[str, Any]
    hparams: dict[str, Any]
    made: dict[str, Any]
    details: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def from_records(cls, folder: str, records: Sequence[Checkpoint]) -> FinishedRun:
        """The run of some records, sorted by step, with one key and one number of environments."""
        about = records[-1].about
        record, hparams = about.record, about.record.get("hparams")
        accuracies = np.array([one.accuracies for one in records], dtype=np.float64)
        inside, out, macro, out_macro = accuracies.reshape(-1, 4, about.n_environments).swapaxes(0, 1)
        if record["args"].get("imbalance"):  # accuracies balanced by class
            inside, out = macro, out_macro
        return cls(
            about.key,
            folder,
            np.array([one.step for one in records], dtype=np.int64),
            inside,
            out,
            macro,
            record["args"],
            hparams if isinstance(hparams, dict) else {},
            {name: record[name] for name in MADE if name in record},
            [one.details for one in records] if any(one.details for one in records) else (),
        )

    @property
    def n_environments(self) -> int:
        return self.inside.shape[1]

    @property
    def training_envs(self) -> list[int]:
        """The numbers of the training environments."""
        return training_envs(self.args.get("train_envs"), self.key.test_envs, self.n_environments)


@dataclass(frozen=True, eq=False)
class Choice:
    """A run tested on the environments `envs`, and its checkpoint number `index`, chosen by the value `validation`.

    With `since` its accuracies are means over the checkpoints from that number to `index`.
    """

    run: FinishedRun
    envs: Envs
    index: int
    validation: float
    since: int | None = None

    @functools.cached_property
    def accuracy(self) -> float:
        """The accuracy in [0, 1] on the test data of the environments, their mean."""
        return self.at(self.run.inside)

    @property
    def macro(self) -> float:
        """The same accuracy averaged over classes; NaN if the run did not record it."""
        return self.at(self.run.macro)

    @property
    def checkpoints(self) -> slice:
        """The numbers of the chosen checkpoints."""
        return slice(self.index if self.since is None else self.since, self.index + 1)

    def at(self, values: Floats) -> float:
        """The value of the choice, from those by checkpoint and environment."""
        return float(values[self.checkpoints, list(self.envs)].mean(axis=1).mean())

    def recorded(self, detail: str) -> list[Any]:
        """A detail of each test environment at each chosen checkpoint; empty if one is not recorded."""
        part = "in" if self.run.key.test_envs else TEST
        names = [detail_name(env, part, detail) for env in self.envs]
        found = [row.get(name) for row in self.run.details[self.checkpoints] for name in names]
        return [] if None in found else found

    @property
    def step(self) -> int:
        return int(self.run.steps[self.index])

    @property
    def hparams_seed(self) -> int:
        return self.run.key.hparams_seed


Method = Callable[[Sequence[FinishedRun], Sequence[FinishedRun], Envs], list[Choice]]
"""The choices among runs tested on some environments, with the runs that leave out one of them and another one."""


def training_domain(runs: Sequence[FinishedRun], pairs: Sequence[FinishedRun], envs: Envs) -> list[Choice]:
    """The checkpoint of the highest mean accuracy on the training environments' out-splits."""
    means = [(run, mean_validation(run)) for run in runs]
    return [Choice(run, envs, int(np.argmax(own)), float(np.max(own))) for run, own in means]


def leave_one_domain_out(runs: Sequence[FinishedRun], pairs: Sequence[FinishedRun], envs: Envs) -> list[Choice]:
    """The checkpoint at which runs with one more left-out environment are best on it, on average.

    Needs, for the same hyper-parameters and step, a run that leaves out the environment and e for every other e.
    """
    (env,) = envs
    of_pair = {(run.key.hparams_seed, other): run for run in pairs for other in run.key.test_envs if other != env}
    choices = []
    for run in runs:
        others = [i for i in range(run.n_environments) if i != env]
        beside = {other: pair for other in others if (pair := of_pair.get((run.key.hparams_seed, other)))}
        steps = run.steps
        for pair in beside.values():
            if not np.array_equal(steps, pair.steps):
                steps = np.intersect1d(steps, pair.steps)
        if len(beside) == len(others) and len(steps):
            shared = [pair.inside[np.searchsorted(pair.steps, steps), other] for other, pair in beside.items()]
            means = _row_means(np.transpose(shared))
            best = int(np.argmax(means))
            choices.append(Choice(run, envs, int(np.searchsorted(run.steps, steps[best])), float(means[best])))
    return choices


def last(runs: Sequence[FinishedRun], pairs: Sequence[FinishedRun], envs: Envs) -> list[Choice]:
    """The last checkpoint; the mean accuracy on the training environments' out-splits decides between runs."""
    return [Choice(run, envs, len(run.steps) - 1, float(mean_validation(run)[-1])) for run in runs]


def mean_of_checkpoints(runs: Sequence[FinishedRun], pairs: Sequence[FinishedRun], envs: Envs) -> list[Choice]:
    """All checkpoints of the second half, whose accuracies are averaged: less noise than that of one checkpoint."""
    choices = []
    for run in runs:
        n = len(run.steps)
        choices.append(Choice(run, envs, n - 1, float(mean_validation(run)[n // 2 :].mean()), n // 2))
    return choices


def oracle(runs: Sequence[FinishedRun], pairs: Sequence[FinishedRun], envs: Envs) -> list[Choice]:
    """The last checkpoint; the mean accuracy on the left-out environments' out-splits decides between runs."""
    return [Choice(run, envs, len(run.steps) - 1, float(run.out[-1, list(envs)].mean())) for run in runs]


def mean_validation(run: FinishedRun) -> Floats:
    """Mean accuracy on the out-splits of all training environments, by checkpoint."""
    return _row_means(run.out[:, run.training_envs])


def _row_means(values: Floats) -> Floats:
    # The memory order is that of DomainBed's sum: the last bit may decide.
    means: Floats = np.ascontiguousarray(values).sum(axis=1) / values.shape[1]
    return means


def best(choices: Iterable[Choice]) -> Choice | None:
    """The choice of the highest validation value, the highest hparams_seed among equals."""
    return max(choices, key=lambda choice: (choice.validation, choice.hparams_seed), default=None)


def best_by_trial(candidates: Mapping[int, Sequence[Choice]], *, fixed: bool) -> dict[int, Choice]:
    """The choice of each trial among its candidates.

    Each trial has its own choice. If the hyper-parameters are `fixed` over trials, one row of the search is chosen for
    all trials, by its mean value among the rows that most trials have.
    """
    if fixed:
        values: dict[int, list[float]] = {}
        for choice in itertools.chain.from_iterable(candidates.values()):
            values.setdefault(choice.hparams_seed, []).append(choice.validation)
        row = max(values, key=lambda seed: (len(values[seed]), float(np.mean(values[seed])), seed), default=0)
        candidates = {trial: [one for one in own if one.hparams_seed == row] for trial, own in candidates.items()}
    chosen = {trial: best(own) for trial, own in candidates.items()}
    return {trial: choice for trial, choice in chosen.items() if choice}


TRAINING_DOMAIN = "training-domain"
LEAVE_ONE_DOMAIN_OUT = "leave-one-domain-out"
ORACLE = "oracle"

METHODS: dict[str, Method] = {
    TRAINING_DOMAIN: training_domain,
    LEAVE_ONE_DOMAIN_OUT: leave_one_domain_out,
    "last": last,
    "mean": mean_of_checkpoints,
    ORACLE: oracle,
}

NEED_LEFT_OUT = (LEAVE_ONE_DOMAIN_OUT, ORACLE)
"""Methods that mean nothing if no environment is left out."""

TITLES = {
    TRAINING_DOMAIN: "training-domain validation",
    LEAVE_ONE_DOMAIN_OUT: "leave-one-domain-out cross-validation",
    "last": "last checkpoint, hyper-parameters by training-domain validation",
    "mean": "mean over the second half of the checkpoints",
    ORACLE: "ORACLE, selected on the test environment: not a fair result",
}
