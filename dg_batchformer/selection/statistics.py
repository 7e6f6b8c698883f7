"""What can be told of paired differences, and of how often something happens, as pure functions."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
RESAMPLES = 10_000

FEWEST_TO_RESAMPLE = 6
"""With fewer values even the interval from the lowest to the highest misses the median in more than 5 % of cases."""

SAME = 1e-9
"""Values that differ by no more are equal but for rounding."""

Interval = tuple[float, float]


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """The percentile bootstrap interval of the mean, over 10,000 resamples of a generator of its own, seeded with 0.

    None of fewer than six values, of which it is far too short: of two normal ones it holds the mean half of the time.
    """
    if len(values) < FEWEST_TO_RESAMPLE:
        return None
    means = _resampling(len(values)) @ np.array(values)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


@functools.lru_cache(maxsize=64)
def _resampling(n: int) -> npt.NDArray[np.float64]:
    """(resamples, n): the share that each of n values has in each resample."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's interval of the mean; None of fewer than two values, or of equal ones, which show no spread."""
    from scipy.special import stdtrit

    error = _standard_error(values)
    if error is None:
        return None
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * error
    mean = float(np.mean(values))
    return mean - half, mean + half


def t_test(values: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's test that the mean is 0; None where there is no `t_interval`."""
    from scipy.special import stdtr

    error = _standard_error(values)
    return None if error is None else float(2 * stdtr(len(values) - 1, -abs(np.mean(values)) / error))


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2 or np.ptp(values) <= SAME:
        return None
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm, 1979); those that are None count for nothing."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[i] = highest
    return corrected


def at_least(n: int, chances: Sequence[float]) -> float:
    """The chance that `n` or more of independent events happen, one of each of the given chances."""
    distribution = np.array([1.0])
    for chance in chances:
        distribution = np.convolve(distribution, [1 - chance, chance])
    return float(distribution[n:].sum())
