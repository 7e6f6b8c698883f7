"""Edges of a search: lowest and highest values of a hyper-parameter that are chosen suspiciously often."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dg_batchformer.selection.groups import FIXED
from dg_batchformer.selection.methods import Choice
from dg_batchformer.selection.table import Row

FEWEST_VALUES = 3  # with fewer different values each one is an edge
SUSPICIOUS = 0.01


@dataclass(frozen=True)
class Edge:
    """How often the "lowest" or "highest" tried value of a hyper-parameter (`side`) was chosen.

    `chances` are, for each of the rows chosen, the share of the tried runs with that value.
    """

    hparam: str
    side: str
    n_at: int
    chances: Sequence[float]

    @property
    def is_suspicious(self) -> bool:
        """Whether random choices would be at this edge so often in less than 1 % of cases."""
        return self.n_at > 0 and at_least(self.n_at, self.chances) < SUSPICIOUS

    def __str__(self) -> str:
        return (
            f"{self.hparam}: {self.n_at} of the {len(self.chances)} chosen rows have the {self.side} value of "
            f"the search ({sum(self.chances):.1f} expected by chance); the best value may lie outside the search space"
        )


def at_least(n: int, chances: Sequence[float]) -> float:
    """The probability that at least `n` of independent events with these probabilities happen."""
    distribution = np.array([1.0])
    for chance in chances:
        distribution = np.convolve(distribution, [1 - chance, chance])
    return float(distribution[n:].sum())


def edges(row: Row) -> list[Edge]:
    """The edges of each numeric hyper-parameter that the search of a row varied."""
    chosen = {choice for cell in row.cells.values() for choice in cell.choices}
    # The environments of a trial share the rows of the search, so one good row may win in all. These choices are not
    # independent: each chosen row counts once in its search.
    searches: dict[tuple[int, int], tuple[Choice, Sequence[Choice]]] = {}
    for unit, candidates in row.candidates.items():
        for choice in chosen.intersection(candidates):
            search = 0 if row.seeds == FIXED else unit.trial_seed
            searches.setdefault((search, choice.hparams_seed), (choice, candidates))
    found: dict[tuple[str, str], list[tuple[bool, float]]] = defaultdict(list)
    for choice, candidates in searches.values():
        for name in candidates[0].run.hparams:
            tried: list[Any] = [one.run.hparams.get(name) for one in candidates]
            if {int, float}.issuperset(map(type, tried)) and len(set(tried)) >= FEWEST_VALUES:
                for side, extreme in (("lowest", min(tried)), ("highest", max(tried))):
                    is_at = choice.run.hparams[name] == extreme
                    found[name, side].append((is_at, tried.count(extreme) / len(tried)))
    return [Edge(*named, sum(at for at, _ in own), [share for _, share in own]) for named, own in found.items()]
