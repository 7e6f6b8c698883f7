"""The ways to choose a checkpoint and hyper-parameters, as pure functions over runs.

Each takes the finished runs of one algorithm in one trial that leave environment `env` out, alone (`singles`) or with
another (`pairs`), and returns for each of the singles, as far as it can, the checkpoint that it takes and the value by
which it compares. The reported accuracy is always that on `env`'s in-split. The first, second and last are
DomainBed's, with its ties: to the earliest checkpoint, and to the highest hparams_seed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dg_batchformer.selection.read import FinishedRun, Floats


@dataclass(frozen=True, eq=False)
class Choice:
    """A run without environment `env`, and its checkpoint number `index`, chosen by the value `validation`."""

    run: FinishedRun
    env: int
    index: int
    validation: float

    @functools.cached_property
    def accuracy(self) -> float:
        """On the in-split of the environment left out, as a share."""
        return float(self.run.inside[self.index, self.env])

    @property
    def macro(self) -> float:
        """The same averaged over classes; NaN where the run did not record it."""
        return float(self.run.macro[self.index, self.env])

    @property
    def step(self) -> int:
        return int(self.run.steps[self.index])

    @property
    def hparams_seed(self) -> int:
        return self.run.key.hparams_seed


Method = Callable[[Sequence[FinishedRun], Sequence[FinishedRun], int], list[Choice]]


def training_domain(singles: Sequence[FinishedRun], pairs: Sequence[FinishedRun], env: int) -> list[Choice]:
    """The checkpoint of the highest mean accuracy on the training environments' out-splits."""
    means = [(run, mean_validation(run, env)) for run in singles]
    return [Choice(run, env, int(np.argmax(own)), float(np.max(own))) for run, own in means]


def leave_one_domain_out(singles: Sequence[FinishedRun], pairs: Sequence[FinishedRun], env: int) -> list[Choice]:
    """The checkpoint whose runs with one environment more left out do best on that environment, on average.

    Needs, for the same hyper-parameters and step, a run that leaves out `env` and e for every other e.
    """
    of_pair = {(run.key.hparams_seed, other): run for run in pairs for other in run.key.test_envs if other != env}
    choices = []
    for run in singles:
        others = [i for i in range(run.n_environments) if i != env]
        beside = {other: pair for other in others if (pair := of_pair.get((run.key.hparams_seed, other)))}
        steps = functools.reduce(_common, [pair.steps for pair in beside.values()], run.steps)
        if len(beside) == len(others) and len(steps):
            means = _row_means(np.transpose([_at(pair, steps, other) for other, pair in beside.items()]))
            best = int(np.argmax(means))
            choices.append(Choice(run, env, int(np.searchsorted(run.steps, steps[best])), float(means[best])))
    return choices


def last(singles: Sequence[FinishedRun], pairs: Sequence[FinishedRun], env: int) -> list[Choice]:
    """The last checkpoint, whose mean accuracy on the training environments' out-splits decides between runs."""
    return [Choice(run, env, len(run.steps) - 1, float(mean_validation(run, env)[-1])) for run in singles]


def oracle(singles: Sequence[FinishedRun], pairs: Sequence[FinishedRun], env: int) -> list[Choice]:
    """The last checkpoint, where accuracy on the left-out environment's own out-split decides between runs."""
    return [Choice(run, env, len(run.steps) - 1, float(run.out[-1, env])) for run in singles]


def mean_validation(run: FinishedRun, env: int) -> Floats:
    """Mean accuracy on the out-splits of all environments but one, by checkpoint."""
    return _row_means(run.out[:, [i for i in range(run.n_environments) if i != env]])


def _row_means(values: Floats) -> Floats:
    # Row by row in memory, as DomainBed sums them: the last bit may decide.
    means: Floats = np.ascontiguousarray(values).sum(axis=1) / values.shape[1]
    return means


def _common(steps: np.ndarray, other: np.ndarray) -> np.ndarray:
    same = len(steps) == len(other) and (steps == other).all()
    return steps if same else np.intersect1d(steps, other)


def _at(run: FinishedRun, steps: np.ndarray, env: int) -> Floats:
    """A run's in-split accuracies on an environment at some of its steps."""
    return run.inside[:, env] if len(steps) == len(run.steps) else run.inside[np.searchsorted(run.steps, steps), env]


def best(choices: Iterable[Choice]) -> Choice | None:
    """The choice of the highest validation value, the highest hparams_seed among equals."""
    return max(choices, key=lambda choice: (choice.validation, choice.hparams_seed), default=None)


def best_by_trial(candidates: Mapping[int, Sequence[Choice]], *, fixed: bool) -> dict[int, Choice]:
    """The choice of each trial among its candidates.

    Each trial chooses for itself, but where the hyper-parameters are `fixed` over trials: there one row of the search
    is chosen for all of them, by its mean value among the rows that most trials have.
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
    ORACLE: oracle,
}

TITLES = {
    TRAINING_DOMAIN: "training-domain validation",
    LEAVE_ONE_DOMAIN_OUT: "leave-one-domain-out cross-validation",
    "last": "last checkpoint, hyper-parameters by training-domain validation",
    ORACLE: "ORACLE, chosen on the test environment itself: not a fair number",
}
