"""Whether the chosen hyper-parameters sit on the edge of what was tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dg_batchformer.selection.methods import Choice
from dg_batchformer.selection.statistics import at_least
from dg_batchformer.selection.table import FIXED, Row

FEWEST_VALUES = 3
"""With fewer different values every one is an edge."""

SUSPICIOUS = 0.01


@dataclass(frozen=True)
class Edge:
    """How often the `side`, "lowest" or "highest", of the values tried of a hyper-parameter was chosen.

    `chances` are, for each of the rows chosen, the share of the tried runs with that value.
    """

    hparam: str
    side: str
    n_at: int
    chances: tuple[float, ...]

    @property
    def is_suspicious(self) -> bool:
        """Whether choices without any preference would be there so often in less than 1 % of cases."""
        return self.n_at > 0 and at_least(self.n_at, self.chances) < SUSPICIOUS

    def __str__(self) -> str:
        return (
            f"{self.hparam}: the {self.side} of the values tried is that of {self.n_at} of the {len(self.chances)} "
            f"rows chosen (by chance {sum(self.chances):.1f}), so the best may lie outside the search space"
        )


NUMBERS = {int, float}


def edges(row: Row) -> list[Edge]:
    """The edges of each number that a row's search varied, suspicious or not."""
    found: dict[tuple[str, str], list[tuple[bool, float]]] = defaultdict(list)
    for choice, candidates in _chosen_rows(row):
        for name, tried in varied_numbers(candidates).items():
            for side, extreme in (("lowest", min(tried)), ("highest", max(tried))):
                is_at = choice.run.hparams[name] == extreme
                found[name, side].append((is_at, tried.count(extreme) / len(tried)))
    return [
        Edge(name, side, sum(is_at for is_at, _ in own), tuple(share for _, share in own))
        for (name, side), own in found.items()
    ]


def _chosen_rows(row: Row) -> Iterable[tuple[Choice, Sequence[Choice]]]:
    """Each row of the search that was chosen, once, and what it was chosen from.

    Environments of a trial have the same rows, of which one that is good in all wins in all: no independent choices.
    """
    chosen = {choice for cell in row.cells.values() for choice in cell.choices}
    found: dict[tuple[int, int], tuple[Choice, Sequence[Choice]]] = {}
    for unit, candidates in row.candidates.items():
        for choice in chosen.intersection(candidates):
            search = 0 if row.seeds == FIXED else unit.trial_seed
            found.setdefault((search, choice.hparams_seed), (choice, candidates))
    return found.values()


def varied_numbers(candidates: Sequence[Choice]) -> dict[str, list[float]]:
    """The values that were tried of each hyper-parameter that is a number and takes at least three."""
    rows = [choice.run.hparams for choice in candidates]
    found = {}
    for name in [name for name, value in rows[0].items() if type(value) in NUMBERS]:
        values: list[Any] = [row.get(name) for row in rows]
        if NUMBERS.issuperset(map(type, values)) and len(set(values)) >= FEWEST_VALUES:
            found[name] = values
    return found
