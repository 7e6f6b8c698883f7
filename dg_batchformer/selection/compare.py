"""Paired differences: an algorithm with a modifier or a given hyper-parameter, minus the same one without it."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dg_batchformer.registry import MODIFIER_ORDER
from dg_batchformer.selection import inference
from dg_batchformer.selection.inference import (
    FEWEST_ENVIRONMENTS,
    LEVEL,
    ROPE,
    SAME,
    USUAL,
    Estimate,
    Interval,
    Probabilities,
    Rules,
)
from dg_batchformer.selection.methods import Floats
from dg_batchformer.selection.pairs import ByUnit, added_hparam, base_of, grids_of, units_of, with_hparams
from dg_batchformer.selection.shots import FEW
from dg_batchformer.selection.table import AVERAGE, Row, Section, Unit

HYPER_PARAMETER = "hyper-parameter"
"""Stands for the modifier if a given hyper-parameter changed."""


@dataclass(frozen=True)
class Difference:
    """Differences in points by unit: a trial of an environment, averaged over the rows of the search.

    `grids` are those of the complete trials, one for each dataset: trials that have all its environments. `these` and
    `new` say what they tell about these environments, and about new ones; None if that is too little.
    """

    units: Mapping[Unit, float]
    grids: Sequence[Floats] = dataclasses.field(compare=False)
    mean: float | None
    these: Estimate | None
    new: Estimate | None
    wins: int
    ties: int
    losses: int
    share_environments: bool = False

    @classmethod
    def from_units(cls, units: Mapping[Unit, float], section: Section | None = None) -> Difference:
        """Of all columns of a section, whose datasets weigh the same, or of a part of one dataset."""
        over_datasets, of_sets = (section.is_over_datasets, section.is_of_sets) if section else (False, False)
        values = list(units.values())
        wins, losses = sum(value > SAME for value in values), sum(value < -SAME for value in values)
        grids = grids_of(units, over_datasets=over_datasets)
        mean = float(np.mean([grid.mean() for grid in grids] if grids else values)) if values else None
        estimates = inference.on_these(grids), inference.on_new(grids)
        return cls(units, grids, mean, *estimates, wins, len(values) - wins - losses, losses, of_sets)

    @property
    def n(self) -> int:
        """The number of pairs of runs, with rows of a search as one."""
        return len(self.units)

    @property
    def n_trials(self) -> int:
        """The number of complete trials, the fewest of a dataset."""
        return min((grid.shape[1] for grid in self.grids), default=0)

    @property
    def n_environments(self) -> int:
        return sum(len(grid) for grid in self.grids)

    @property
    def can_tell_new(self) -> bool:
        """Whether there are enough environments for a statement about new ones; left-out sets share theirs."""
        return self.n_environments >= FEWEST_ENVIRONMENTS and not self.share_environments


@dataclass(frozen=True)
class Comparison:
    """A variant minus its base: over all columns, by column, and by shot if the runs are on a long tail.

    `modifier` is the additional modifier of the variant, or HYPER_PARAMETER; `change` names it, with its hparams if
    there are several such variants, or the hyper-parameter and its value. The family of a comparison are the
    `n_comparisons` of its modifier in a table: its interval, p-value and verdict hold for all of them together. `rope`
    is half the width of the region of practical equivalence. `as_selected` is the difference of the two averages in the
    table, each with its own selected hyper-parameters, and `chosen` what it tells about these environments.
    `improvement` is the probability that a run of the variant is better. `is_searched`: there are several rows of a
    search.
    """

    modifier: str
    change: str
    variant: str
    base: str
    overall: Difference
    columns: Mapping[str, Difference]
    as_selected: float | None = None
    chosen: Estimate | None = None
    improvement: float | None = None
    is_searched: bool = False
    shots: Mapping[str, Difference] = dataclasses.field(default_factory=dict)
    rope: float = ROPE
    n_comparisons: int = 1

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
    def level(self) -> float:
        """The chance of a wrong claim of this comparison: those of a family have LEVEL together."""
        return LEVEL / self.n_comparisons

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval for these environments, simultaneous for the family."""
        return self.overall.these.interval(self.level) if self.overall.these else None

    @property
    def p(self) -> float | None:
        """The p-value for these environments, corrected for the family."""
        these = self.overall.these
        return inference.corrected(these.p, self.n_comparisons) if these else None

    @property
    def probabilities(self) -> Probabilities | None:
        return self.overall.these.probabilities(self.rope) if self.overall.these else None

    @property
    def detectable(self) -> float | None:
        """The smallest difference that these trials find with a probability of 80 %."""
        return self.overall.these.detectable(self.level) if self.overall.these else None

    def trials_needed(self, effect: float) -> int | None:
        """The fewest trials that find a true difference of `effect` points with a probability of 80 %."""
        these = self.overall.these
        return inference.trials_needed(these, self.overall.n_trials, effect, self.level) if these else None

    @property
    def verdict(self) -> str:
        """What the runs say about these environments."""
        these, n = self.overall.these, self.overall.n
        if these:
            return inference.verdict(these, self.rope, self.level)
        why = "all differences are equal" if self.overall.n_trials > 1 else "one trial" if n else "no pair of runs"
        return f"{inference.INCONCLUSIVE} ({why}, so no test)"

    @property
    def new_interval(self) -> Interval | None:
        """The 95 % interval for new environments, simultaneous for the family; None for too few environments."""
        new = self.overall.new if self.overall.can_tell_new else None
        return new.interval(self.level) if new else None

    @property
    def new_verdict(self) -> str:
        """What the runs say about new environments, or why nothing."""
        n, new = self.overall.n_environments, self.overall.new
        if self.overall.share_environments:
            return "not tested, left-out sets share environments"
        if n < FEWEST_ENVIRONMENTS:
            return f"too few ({n}, at least {FEWEST_ENVIRONMENTS})"
        return inference.verdict(new, self.rope, self.level) if new else "one trial, or all differences are equal"

    @cached_property
    def sign_flip(self) -> float | None:
        """The p-value of flipped signs of environments, not corrected; None for too few environments."""
        return inference.sign_flip(self.overall.grids) if self.overall.can_tell_new else None

    @property
    def words(self) -> str:
        """The outcome in a sentence: for these environments, then for new ones."""
        overall = self.overall
        if overall.mean is None:
            return "no pair of runs to compare"
        found = [f"{overall.mean:+.1f} points"]
        if self.interval:
            found.append(_in_words(self.interval))
        if (few := self.shots.get(FEW)) and few.mean is not None:
            found.append(f"few-shot {few.mean:+.1f}" + (f" ({_in_words(few.these.interval())})" if few.these else ""))
        if self.is_searched and self.as_selected is not None:
            own = f" ({_in_words(self.chosen.interval(self.level))})" if self.chosen else ""
            found.append(f"as chosen {self.as_selected:+.1f}{own}")
        found.append(f"{overall.n_trials} trial{'s' * (overall.n_trials != 1)}: {self.verdict}")
        seen = f"; 80 % power from {self.detectable:.1f} points on" if self.detectable else ""
        return f"{', '.join(found)}{seen}; new environments: {self._about_new}"

    @property
    def _about_new(self) -> str:
        return f"{_in_words(self.new_interval)}: {self.new_verdict}" if self.new_interval else self.new_verdict


def _in_words(limits: Interval) -> str:
    return f"95 % {limits[0]:+.1f} to {limits[1]:+.1f}"


def compare(section: Section, rules: Rules = USUAL) -> list[Comparison]:
    """The comparisons of a section: each modifier, then each given hparam; at last BatchFormer on all algorithms.

    Pairs have equal environment, trial and hparams_seed; the section's method selects the checkpoint of each run.
    """
    rows = [row for row in section.rows if row.candidates]  # published rows have no runs to pair
    modifiers = ("BatchFormer", *(name for name in MODIFIER_ORDER if name != "BatchFormer"))
    changes = [
        (modifier, with_hparams(modifier, row, base, rows), row, base)
        for modifier in modifiers
        for row in rows
        if (base := base_of(row, modifier, rows))
    ]
    changes += [
        (HYPER_PARAMETER, added, row, base) for row in rows for base in rows if (added := added_hparam(row, base))
    ]
    found = [_comparison(*change, section, rules.rope) for change in changes]
    names = [{"modifier": modifier, "table": ""}.get(rules.family, str(i)) for i, (modifier, *_) in enumerate(changes)]
    sizes = Counter(name for name, one in zip(names, found, strict=True) if one.overall.these)
    found = [
        dataclasses.replace(one, n_comparisons=max(1, sizes[name])) for name, one in zip(names, found, strict=True)
    ]
    # One for each algorithm, without hyper-parameters of BatchFormer.
    plain: dict[str, Comparison] = {}
    for (modifier, _, row, base), one in zip(changes, found, strict=True):
        if modifier == "BatchFormer" and row.key.given == base.key.given and one.overall.units:
            plain.setdefault(base.algorithm, one)
    return [*found, *_over_algorithms(list(plain.values()), section, rules.rope)]


def _over_algorithms(own: Sequence[Comparison], section: Section, rope: float) -> Iterator[Comparison]:
    """BatchFormer on the mean of several algorithms; a comparison of its own family."""
    shared = set.intersection(*(set(one.overall.units) for one in own)) if len(own) > 1 else set()
    if shared:
        units = {unit: float(np.mean([one.overall.units[unit] for one in own])) for unit in sorted(shared)}
        names = f"{len(own)} variants", f"{len(own)} algorithms"
        yield Comparison("BatchFormer", "BatchFormer", *names, *_differences(units, section), rope=rope)


def _differences(units: Mapping[Unit, float], section: Section) -> tuple[Difference, dict[str, Difference]]:
    """The difference over all columns, and by column."""
    by_column = {
        column: Difference.from_units({unit: value for unit, value in units.items() if unit.column == column})
        for column in section.own_columns
    }
    return Difference.from_units(units, section), by_column


def _comparison(modifier: str, change: str, row: Row, base: Row, section: Section, rope: float) -> Comparison:
    by_shot = {
        shot: Difference.from_units(units_of(row.accuracies_by_shot[shot], base.accuracies_by_shot[shot]), section)
        for shot in section.shots
    }
    mean, of_base_mean = row.cells[AVERAGE].mean, base.cells[AVERAGE].mean
    return Comparison(
        modifier,
        change,
        row.label,
        base.label,
        *_differences(units_of(row.accuracies, base.accuracies), section),
        as_selected=None if mean is None or of_base_mean is None else mean - of_base_mean,
        chosen=_chosen(row, base, section),
        improvement=_improvement(row.accuracies, base.accuracies),
        is_searched=any(len(own) > 1 for own in row.accuracies.values()),
        shots=by_shot,
        rope=rope,
    )


def _chosen(row: Row, base: Row, section: Section) -> Estimate | None:
    """What the difference of the cells of a table tells about these environments."""
    units = {
        Unit(column, column, trial): value - base.cells[column].values[trial]
        for column in section.own_columns
        for trial, value in row.cells[column].values.items()
        if trial in base.cells[column].values
    }
    return inference.on_these(grids_of(units, over_datasets=section.is_over_datasets)) if units else None


def _improvement(accuracies: ByUnit, of_base: ByUnit) -> float | None:
    """The probability of improvement over the environments that both have."""
    by_environment: dict[tuple[str, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for place, own in enumerate((accuracies, of_base)):
        for unit, by_seed in own.items():
            if by_seed:
                by_environment[unit.column, unit.environment][place].append(float(np.mean(list(by_seed.values()))))
    both = [pair for pair in by_environment.values() if all(pair)]
    return inference.improvement(both) if both else None
