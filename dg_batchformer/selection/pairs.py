"""What is compared: the rows of a table that differ in one thing, and the differences of their runs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from dg_batchformer.registry import split_name
from dg_batchformer.selection.methods import Floats
from dg_batchformer.selection.settings import in_words
from dg_batchformer.selection.table import Row, Unit


def base_of(row: Row, modifier: str, among: Sequence[Row]) -> Row | None:
    """The row of the same algorithm and hparams without a modifier and its hparams, in any spelling."""

    def parts(one: Row) -> tuple[str, set[str], dict[str, str]]:
        objective, modifiers = split_name(one.algorithm)
        others = {name: value for name, value in one.key.by_name.items() if not name.startswith(f"{modifier.lower()}_")}
        return objective, set(modifiers), others

    objective, modifiers, given = parts(row)
    wanted = objective, modifiers - {modifier}, given
    return next((other for other in among if parts(other) == wanted), None) if modifier in modifiers else None


def with_hparams(modifier: str, row: Row, base: Row, among: Sequence[Row]) -> str:
    """A modifier, with the hparams that only the variant was given if there are other variants of its base."""
    variants = [one for one in among if one.algorithm == row.algorithm and base_of(one, modifier, among) is base]
    added = _added(row, base)
    return f"{modifier} ({in_words(added)})" if added and len(variants) > 1 else modifier


def added_hparam(row: Row, base: Row) -> str:
    """The hparam that only one of two rows of an algorithm was given, if they differ in nothing else."""
    added = {name: value for name, value in _added(row, base).items() if name}
    has_one_more = len(row.key.by_name) == len(base.key.by_name) + 1
    if split_name(row.algorithm) != split_name(base.algorithm) or len(added) != 1 or not has_one_more:
        return ""
    return in_words(added)


def _added(row: Row, base: Row) -> dict[str, str]:
    """The given hparams of a row that its base was not given with the same value."""
    of_base = base.key.by_name
    return {name: value for name, value in row.key.by_name.items() if of_base.get(name) != value}


ByUnit = Mapping[Unit, Mapping[int, float]]


def units_of(accuracies: ByUnit, of_base: ByUnit) -> dict[Unit, float]:
    """The difference in points of each unit, averaged over the rows of the search that both have."""
    units = {}
    for unit in sorted(accuracies.keys() & of_base.keys()):
        own, theirs = accuracies[unit], of_base[unit]
        if differences := [value - theirs[seed] for seed, value in own.items() if seed in theirs]:
            units[unit] = float(100 * np.mean(differences))
    return units


def grids_of(units: Mapping[Unit, float], *, over_datasets: bool) -> list[Floats]:
    """The grids (environments, complete trials) of the datasets; none if a dataset has no complete trial."""
    datasets: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for unit, value in units.items():
        datasets[unit.column if over_datasets else ""][unit.environment][unit.trial_seed] = value
    grids = []
    for own in datasets.values():
        trials = sorted(set.intersection(*map(set, own.values())))
        grids.append(np.array([[of_trial[trial] for trial in trials] for of_trial in own.values()], dtype=np.float64))
    return grids if all(grid.size for grid in grids) else []
