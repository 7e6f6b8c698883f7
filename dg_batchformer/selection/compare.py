"""Paired differences: an algorithm with a modifier or a given hyper-parameter, minus the same one without it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dg_batchformer.registry import MODIFIER_ORDER, split_name
from dg_batchformer.selection.methods import Floats
from dg_batchformer.selection.settings import in_words
from dg_batchformer.selection.shots import FEW
from dg_batchformer.selection.table import AVERAGE, Row, Section, Unit

CONFIDENCE = 0.95
RESAMPLES = 10_000
SIGNIFICANT = 0.05

FEWEST_TO_RESAMPLE = 6
"""With fewer values even the interval from lowest to highest misses the median in more than 5 % of cases."""

SAME = 1e-9
"""Values that differ by no more than this are equal up to rounding."""

HYPER_PARAMETER = "hyper-parameter"
"""Stands for the modifier if a given hyper-parameter changed."""

Interval = tuple[float, float]


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """The percentile bootstrap interval of the mean, from 10,000 resamples of a generator with seed 0.

    None for fewer than six values, where it is far too short: of two, it covers the mean half of the time.
    """
    if len(values) < FEWEST_TO_RESAMPLE:
        return None
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(_resampling(len(values)) @ np.array(values), [tail, 100 - tail])
    return float(low), float(high)


@functools.lru_cache(maxsize=64)
def _resampling(n: int) -> Floats:
    """The weight of each of n values in each resample, (resamples, n)."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's interval of the mean; None for fewer than two values, or for equal values."""
    from scipy.special import stdtrit

    if (error := _standard_error(values)) is None:
        return None
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * error
    mean = float(np.mean(values))
    return mean - half, mean + half


def t_test(values: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's test that the mean is 0; None if there is no `t_interval`."""
    from scipy.special import stdtr

    error = _standard_error(values)
    return None if error is None else float(2 * stdtr(len(values) - 1, -abs(np.mean(values)) / error))


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2 or np.ptp(values) <= SAME:
        return None
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm, 1979); None values do not count."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        corrected[i] = highest = max(highest, min(1.0, (len(order) - rank) * p))
    return corrected


@dataclass(frozen=True)
class Difference:
    """Differences in points by unit, with 95 % intervals and a two-sided p-value of their mean.

    A unit is a trial of an environment; with several rows of the search it is the mean of their differences. The
    intervals (bootstrap over the units, and Student's t) and the p-value are None for too few units; Student's and the
    p-value also if all units are equal.
    """

    units: Mapping[Unit, float]
    mean: float | None
    bootstrap: Interval | None
    t: Interval | None
    p: float | None
    wins: int
    ties: int
    losses: int

    @classmethod
    def from_units(cls, units: Mapping[Unit, float]) -> Difference:
        values = list(units.values())
        wins, losses = sum(value > SAME for value in values), sum(value < -SAME for value in values)
        mean = float(np.mean(values)) if values else None
        tests = bootstrap_interval(values), t_interval(values), t_test(values)
        return cls(units, mean, *tests, wins, len(values) - wins - losses, losses)

    @property
    def n(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Comparison:
    """A variant minus its base: over all columns, by column, and by shot if the runs are on a long tail.

    `modifier` is the additional modifier of the variant, or HYPER_PARAMETER; `change` names it, or the hyper-parameter
    and its value. `p_holm` is the p-value corrected for all `n_comparisons` of a section. `as_selected` is the
    difference of the two averages in the table, each with its own selected hyper-parameters.
    """

    modifier: str
    change: str
    variant: str
    base: str
    overall: Difference
    columns: Mapping[str, Difference]
    as_selected: float | None
    p_holm: float | None = None
    n_comparisons: int = 1
    shots: Mapping[str, Difference] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.variant} - {self.base}"

    @property
    def parts(self) -> dict[str, Difference]:
        """The differences by column, then by shot."""
        return {**self.columns, **self.shots}

    @property
    def title(self) -> str:
        """The name of the comparison: "BatchFormer on ERM"."""
        return f"{self.change} on {self.base}"

    @property
    def words(self) -> str:
        """The outcome: mean difference, Student's 95 % interval, number of pairs, and a verdict."""
        overall = self.overall
        if overall.mean is None:
            return "no pair of runs to compare"
        found = [f"{overall.mean:+.1f} points"]
        if overall.t:
            found.append(_in_words(overall.t))
        if (few := self.shots.get(FEW)) and few.mean is not None:
            found.append(f"few-shot {few.mean:+.1f}" + (f" ({_in_words(few.t)})" if few.t else ""))
        found.append(f"{overall.n} pair{'s' * (overall.n > 1)}")
        return f"{', '.join(found)}: {self._verdict}"

    @property
    def _verdict(self) -> str:
        """ "better" or "worse" where the corrected p is below 0.05, else "inconclusive"."""
        overall = self.overall
        if overall.mean is None or overall.p is None or self.p_holm is None:
            return f"inconclusive ({'one pair' if overall.n == 1 else 'all pairs are equal'}, so no test)"
        if self.p_holm < SIGNIFICANT:
            return "better" if overall.mean > 0 else "worse"
        corrected = f" (p {self.p_holm:.3f} after correction for {self.n_comparisons} comparisons)"
        return "inconclusive" + corrected * (overall.p < SIGNIFICANT)


def _in_words(limits: Interval) -> str:
    return f"95 % {limits[0]:+.1f} to {limits[1]:+.1f}"


def compare(section: Section) -> list[Comparison]:
    """The comparisons of a section: each modifier, then each given hparam; p-values are corrected for all of them.

    Pairs have equal environment, trial and hparams_seed; the section's method selects the checkpoint of each run.
    """
    rows = [row for row in section.rows if row.candidates]  # published rows have no runs to pair
    modifiers = ("BatchFormer", *(name for name in MODIFIER_ORDER if name != "BatchFormer"))
    changes = [
        (modifier, modifier, row, base)
        for modifier in modifiers
        for row in rows
        if (base := base_of(row, modifier, rows))
    ]
    changes += [
        (HYPER_PARAMETER, added, row, base) for row in rows for base in rows if (added := added_hparam(row, base))
    ]
    found = [_comparison(*change, section) for change in changes]
    corrected = holm([comparison.overall.p for comparison in found])
    n = sum(p is not None for p in corrected)
    return [dataclasses.replace(one, p_holm=p, n_comparisons=n) for one, p in zip(found, corrected, strict=True)]


def base_of(row: Row, modifier: str, among: Sequence[Row]) -> Row | None:
    """The row of the same algorithm and hparams without a modifier and its hparams, in any spelling."""

    def parts(one: Row) -> tuple[str, set[str], dict[str, str]]:
        objective, modifiers = split_name(one.algorithm)
        others = {name: value for name, value in one.key.by_name.items() if not name.startswith(f"{modifier.lower()}_")}
        return objective, set(modifiers), others

    objective, modifiers, given = parts(row)
    wanted = objective, modifiers - {modifier}, given
    return next((other for other in among if parts(other) == wanted), None) if modifier in modifiers else None


def added_hparam(row: Row, base: Row) -> str:
    """The hparam that only one of two rows of an algorithm was given, if they differ in nothing else."""
    own, of_base = row.key.by_name, base.key.by_name
    added = {name: value for name, value in own.items() if name and of_base.get(name) != value}
    if split_name(row.algorithm) != split_name(base.algorithm) or len(added) != 1 or len(own) != len(of_base) + 1:
        return ""
    return in_words(added)


ByUnit = Mapping[Unit, Mapping[int, float]]


def _units(accuracies: ByUnit, of_base: ByUnit) -> dict[Unit, float]:
    """The difference in points of each unit, averaged over the rows of the search that both have."""
    units = {}
    for unit in sorted(accuracies.keys() & of_base.keys()):
        own, theirs = accuracies[unit], of_base[unit]
        if differences := [value - theirs[seed] for seed, value in own.items() if seed in theirs]:
            units[unit] = float(100 * np.mean(differences))
    return units


def _comparison(modifier: str, change: str, row: Row, base: Row, section: Section) -> Comparison:
    units = _units(row.accuracies, base.accuracies)
    by_column = {
        column: Difference.from_units({unit: value for unit, value in units.items() if unit.column == column})
        for column in section.own_columns
    }
    by_shot = {
        shot: Difference.from_units(_units(row.accuracies_by_shot[shot], base.accuracies_by_shot[shot]))
        for shot in section.shots
    }
    mean, of_base_mean = row.cells[AVERAGE].mean, base.cells[AVERAGE].mean
    as_selected = None if mean is None or of_base_mean is None else mean - of_base_mean
    names = modifier, change, row.label, base.label
    return Comparison(*names, Difference.from_units(units), by_column, as_selected, shots=by_shot)
