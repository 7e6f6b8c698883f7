"""What paired differences say: on these environments, and on new ones; `docs/comparisons.md` derives all of it.

A grid (environments, trials) has the differences of one dataset. Their model is mean + environment + trial + rest: runs
of one environment are alike, and so are runs of one trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dg_batchformer.selection.methods import Floats

LEVEL = 0.05
"""The chance of a wrong claim, over all comparisons of a family."""

POWER = 0.8

ROPE = 0.5
"""The default of `--rope`, in points: smaller differences are of no practical importance."""

FAMILIES = {
    "modifier": "all comparisons of a modifier in a table together (Bonferroni)",
    "table": "all comparisons of a table together (Bonferroni)",
    "none": "each comparison alone, without a correction",
}
"""What the intervals and p-values of comparisons are corrected for."""

SAME = 1e-9
"""Values that differ by no more than this are equal up to rounding."""

FEWEST_ENVIRONMENTS = 6
"""With fewer, no distribution-free test reaches p < 0.05: flipping the signs of 5 gives at least 2 / 2^5 = 0.0625."""

Interval = tuple[float, float]


class Rules(NamedTuple):
    """The rules of comparisons: the region of practical equivalence in points, and the family that is corrected for."""

    rope: float = ROPE
    family: str = "modifier"


USUAL = Rules()


class Probabilities(NamedTuple):
    """The probabilities that the true difference is below, inside and above the region of practical equivalence."""

    worse: float
    equivalent: float
    better: float


@dataclass(frozen=True)
class Estimate:
    """A mean in points, its standard error above 0, and the degrees of freedom of Student's distribution around it."""

    mean: float
    error: float
    df: float

    def interval(self, level: float = LEVEL) -> Interval:
        """The interval that misses the true mean with probability `level`."""
        half = critical(self.df, level) * self.error
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """The two-sided p-value of the mean 0."""
        return 2 * _below(-abs(self.mean) / self.error, self.df)

    def probabilities(self, rope: float) -> Probabilities:
        """Those of a flat prior (the Bayesian t-test of Benavoli et al., JMLR 2017)."""
        worse = _below((-rope - self.mean) / self.error, self.df)
        better = _below((self.mean - rope) / self.error, self.df)
        return Probabilities(worse, 1 - worse - better, better)

    def p_equivalent(self, rope: float) -> float:
        """The p-value of two one-sided tests that the difference is `rope` or more (Schuirmann, 1987)."""
        probabilities = self.probabilities(rope)
        return max(probabilities.worse, probabilities.better)

    def detectable(self, level: float = LEVEL) -> float:
        """The smallest true difference that this design finds with a probability of 80 %."""
        return detectable(self.error, self.df, level)


def critical(df: float, level: float) -> float:
    """The quantile of Student's distribution at 1 - level / 2."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 1 - level / 2))


def _below(value: float, df: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(df, value))


def detectable(error: float, df: float, level: float) -> float:
    """The difference that a two-sided t-test with this standard error finds with a probability of 80 %.

    The chance to find it with the wrong sign is neglected: it is below 1e-5.
    """
    from scipy.special import nctdtrinc

    return float(nctdtrinc(df, 1 - POWER, critical(df, level))) * error


def trials_needed(estimate: Estimate, n_trials: int, effect: float, level: float = LEVEL) -> int | None:
    """The fewest trials with which a true difference of `effect` points is found with a probability of 80 %.

    `estimate` is that of `n_trials` trials on these environments. None for more than 1,000.
    """
    per_trial = estimate.error * n_trials**0.5, estimate.df / (n_trials - 1)
    for n in range(2, 1001):
        if detectable(per_trial[0] / n**0.5, per_trial[1] * (n - 1), level) <= effect:
            return n
    return None


def on_these(grids: Sequence[Floats]) -> Estimate | None:
    """The mean over datasets for these environments, with trials as the sample.

    A trial's value is its mean over the environments of a dataset: runs of one trial share seeds. None with fewer than
    two trials of a dataset, or without any variance.
    """
    if any(grid.shape[1] < 2 for grid in grids) or not grids:
        return None
    parts = [(_variance_of_mean(grid.mean(0)), grid.shape[1] - 1) for grid in grids]
    return _estimate(grids, parts)


def on_new(grids: Sequence[Floats]) -> Estimate | None:
    """The mean over datasets for new environments of them, with environments as the sample, and trials too.

    The variance is that of two crossed random effects: of the means of environments, plus that of trials in excess of
    the rest. Without the second part an effect that all environments of a trial share would not count. None with fewer
    than two environments or trials of a dataset, or without any variance.
    """
    if any(min(grid.shape) < 2 for grid in grids) or not grids:
        return None
    parts = []
    for grid in grids:
        n_environments, n_trials = grid.shape
        noise = variance_of_rest(grid) / grid.size
        parts.append((_variance_of_mean(grid.mean(1)), n_environments - 1))
        parts.append((max(_variance_of_mean(grid.mean(0)) - noise, 0.0), n_trials - 1))
    return _estimate(grids, parts)


def variance_of_rest(grid: Floats) -> float:
    """The variance of what neither environments nor trials explain: the mean square of a two-way table."""
    rest = grid - grid.mean(0) - grid.mean(1, keepdims=True) + grid.mean()
    return float((rest**2).sum()) / ((grid.shape[0] - 1) * (grid.shape[1] - 1))


def _variance_of_mean(values: Floats) -> float:
    return float(values.var(ddof=1)) / len(values)


def _estimate(grids: Sequence[Floats], parts: Sequence[tuple[float, int]]) -> Estimate | None:
    """The mean of the datasets' means, from parts of its variance with their degrees of freedom.

    Those of the sum are Satterthwaite's (1946). A dataset with one value throughout has no variance.
    """
    variance = sum(own for own, _ in parts) / len(grids) ** 2
    if variance <= SAME**2:
        return None
    df = sum(own for own, _ in parts) ** 2 / sum(own**2 / n for own, n in parts)
    return Estimate(float(np.mean([grid.mean() for grid in grids])), variance**0.5, df)


def sign_flip(grids: Sequence[Floats]) -> float:
    """The p-value of a test that flips the signs of the environments' means, all combinations or 100,000 random ones.

    Without assumptions on the distribution, but it takes trials for independent of each other.
    """
    from scipy.stats import permutation_test

    means = np.concatenate([grid.mean(1) / (len(grid) * len(grids)) for grid in grids])
    n_resamples = np.inf if len(means) <= 16 else 100_000
    found = permutation_test(
        (means,), np.sum, permutation_type="samples", n_resamples=n_resamples, random_state=0, vectorized=True
    )
    return float(found.pvalue)


def smallest_p(n_environments: int) -> float:
    """The smallest p-value that `sign_flip` can give."""
    return min(1.0, 2.0 / 2**n_environments)


def improvement(accuracies: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """The probability that a run of the variant is better than one of its base (Agarwal et al., NeurIPS 2021).

    `accuracies` are of the variant and of the base by environment. It is the mean over environments of the share of all
    pairs of their runs in which the variant is better; a tie is a half.
    """
    shares = []
    for variant, base in accuracies:
        differences = np.subtract.outer(np.asarray(variant), np.asarray(base))
        shares.append(float(np.mean((differences > SAME) + 0.5 * (np.abs(differences) <= SAME))))
    return float(np.mean(shares))


def corrected(p: float, n_comparisons: int) -> float:
    """A p-value corrected for the comparisons of its family (Bonferroni), which fits intervals at LEVEL / n."""
    return min(1.0, p * n_comparisons)


BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "better", "worse", "equivalent", "inconclusive"


def verdict(estimate: Estimate, rope: float, level: float) -> str:
    """What an estimate says, with a chance of `level` to be wrong.

    EQUIVALENT: the difference is smaller than `rope`. BETTER, WORSE: it is not 0, and has this sign. INCONCLUSIVE: none
    of these.
    """
    if estimate.p_equivalent(rope) < level:
        return EQUIVALENT
    if estimate.p < level:
        return BETTER if estimate.mean > 0 else WORSE
    return INCONCLUSIVE
