"""What a modifier or a given hyper-parameter changed: an algorithm with it against the same one without, run by run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dg_batchformer.registry import MODIFIER_ORDER, split_name
from dg_batchformer.selection.given import by_name, in_words
from dg_batchformer.selection.statistics import SAME, Interval, bootstrap_interval, holm, t_interval, t_test
from dg_batchformer.selection.table import AVERAGE, Row, Section, Unit

SIGNIFICANT = 0.05

HYPER_PARAMETER = "hyper-parameter"
"""What stands for the modifier where a given hyper-parameter is what changed."""


@dataclass(frozen=True)
class Difference:
    """Differences in points by unit, and what can be told of their mean: 95 % intervals and a two-sided p-value.

    A unit is a trial of an environment; over several rows of the search it is the mean of their differences. The
    intervals, by bootstrap over the units and by Student's t, and the p-value are None where the units are too few for
    them; the last two also where all units are equal.
    """

    units: Mapping[Unit, float]
    mean: float | None
    bootstrap: Interval | None
    t: Interval | None
    p: float | None
    wins: int
    ties: int
    losses: int

    @property
    def n(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Comparison:
    """A variant less its base: over all columns, and by column.

    `modifier` is what the variant has more, or HYPER_PARAMETER; `change` is its name or a hyper-parameter's with its
    value. `p_holm` is the p-value corrected for all `n_comparisons` of a section, and `as_selected` the difference
    between the averages that the table shows, where each of the two chose its own hyper-parameters.
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

    @property
    def name(self) -> str:
        return f"{self.variant} - {self.base}"

    @property
    def words(self) -> str:
        """The outcome in plain words."""
        overall = self.overall
        if overall.mean is None:
            return "no pair of runs to compare"
        if overall.n == 1:
            return f"{overall.mean:+.1f} points in one pair, which tells nothing"
        pairs = f"{overall.n} pairs"
        if overall.t is None or self.p_holm is None:
            return f"{overall.mean:+.1f} points in each of {pairs}: without a spread no test can judge it"
        interval = f"Student's 95 % interval {overall.t[0]:+.1f} to {overall.t[1]:+.1f} points"
        if self.p_holm >= SIGNIFICANT:
            alone = overall.p is not None and overall.p < SIGNIFICANT
            corrected = f"; p {self.p_holm:.3f}, corrected for {self.n_comparisons} comparisons" if alone else ""
            return f"no difference can be told from these {pairs} ({interval}{corrected})"
        changed = "raises" if overall.mean > 0 else "lowers"
        return f"{self.change} {changed} {self.base} by {abs(overall.mean):.1f} points ({interval}, {pairs})"


def compare(section: Section) -> list[Comparison]:
    """What each modifier and then each given hparam changed in a section, with p-values corrected for all of them.

    Runs are paired on equal environment, trial and hparams_seed, and each takes its checkpoint by the section's method.
    """
    rows = tuple(row for row in section.rows if row.candidates)  # published ones have no runs to pair
    modifiers = ("BatchFormer", *(name for name in MODIFIER_ORDER if name != "BatchFormer"))
    found = [
        _comparison(modifier, modifier, row, base, section)
        for modifier in modifiers
        for row in rows
        if (base := base_of(row, modifier, rows))
    ]
    found += [
        _comparison(HYPER_PARAMETER, added, row, base, section)
        for row in rows
        for base in rows
        if (added := added_hparam(row, base))
    ]
    corrected = holm([comparison.overall.p for comparison in found])
    n = sum(p is not None for p in corrected)
    return [
        dataclasses.replace(comparison, p_holm=p, n_comparisons=n)
        for comparison, p in zip(found, corrected, strict=True)
    ]


def base_of(row: Row, modifier: str, among: tuple[Row, ...]) -> Row | None:
    """The row of the same algorithm and hparams without a modifier and what is its own, however it is spelled."""
    objective, modifiers = split_name(row.algorithm)
    if modifier not in modifiers:
        return None
    wanted = objective, set(modifiers) - {modifier}, _given_without(row, modifier)
    for other in among:
        its_objective, its_modifiers = split_name(other.algorithm)
        if (its_objective, set(its_modifiers), _given_without(other, modifier)) == wanted:
            return other
    return None


def added_hparam(row: Row, base: Row) -> str:
    """The hparam that a row was given and another of the same algorithm was not, where that is all they differ in."""
    own, of_base = by_name(row.key.given), by_name(base.key.given)
    added = {name: value for name, value in own.items() if name and of_base.get(name) != value}
    if split_name(row.algorithm) != split_name(base.algorithm) or len(added) != 1 or len(own) != len(of_base) + 1:
        return ""
    return in_words(added)


def _given_without(row: Row, modifier: str) -> dict[str, str]:
    """The hparams that a row was given but for a modifier's own, which all begin with its name."""
    return {
        name: value for name, value in by_name(row.key.given).items() if not name.startswith(f"{modifier.lower()}_")
    }


def _comparison(modifier: str, change: str, row: Row, base: Row, section: Section) -> Comparison:
    units = {}
    for unit in sorted(row.accuracies.keys() & base.accuracies.keys()):
        of_base = base.accuracies[unit]
        differences = [own - of_base[seed] for seed, own in row.accuracies[unit].items() if seed in of_base]
        if differences:
            units[unit] = float(100 * np.mean(differences))
    columns = {
        column: difference({unit: value for unit, value in units.items() if unit.column == column})
        for column in section.own_columns
    }
    mean, of_base_mean = row.cells[AVERAGE].mean, base.cells[AVERAGE].mean
    as_selected = None if mean is None or of_base_mean is None else mean - of_base_mean
    return Comparison(modifier, change, row.label, base.label, difference(units), columns, as_selected)


def difference(units: Mapping[Unit, float]) -> Difference:
    """What can be told of differences, in points, by unit."""
    values = list(units.values())
    wins, losses = sum(value > SAME for value in values), sum(value < -SAME for value in values)
    return Difference(
        units,
        float(np.mean(values)) if values else None,
        bootstrap_interval(values),
        t_interval(values),
        t_test(values),
        wins,
        len(values) - wins - losses,
        losses,
    )
