"""Whether the chosen hyper-parameters sit on the edge of what was tried."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dg_batchformer.selection.methods import Choice
from dg_batchformer.selection.statistics import at_least
from dg_batchformer.selection.table import Row

FEWEST_VALUES = 3
"""With fewer different values every one is an edge."""

SUSPICIOUS = 0.01


@dataclass(frozen=True)
class Edge:
    """How often the `side`, "lowest" or "highest", of the values tried of a hyper-parameter was chosen.

    `chances` are, for each of the choices, the share of the tried runs with that value.
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
            f"{self.hparam}: the {self.side} of the values tried was chosen {self.n_at} times of {len(self.chances)} "
            f"(by chance {sum(self.chances):.1f}), so the best may lie outside the search space"
        )


def edges(row: Row) -> list[Edge]:
    """The edges of each number that a row's search varied, suspicious or not."""
    chosen = {choice for cell in row.cells.values() for choice in cell.choices}
    found: dict[tuple[str, str], list[tuple[bool, float]]] = defaultdict(list)
    for candidates in row.candidates.values():
        for choice in chosen.intersection(candidates):
            for name, tried in varied_numbers(candidates).items():
                for side, extreme in (("lowest", min(tried)), ("highest", max(tried))):
                    is_at = choice.run.hparams[name] == extreme
                    found[name, side].append((is_at, tried.count(extreme) / len(tried)))
    return [
        Edge(name, side, sum(is_at for is_at, _ in own), tuple(share for _, share in own))
        for (name, side), own in found.items()
    ]


def varied_numbers(candidates: Sequence[Choice]) -> dict[str, list[float]]:
    """The values that were tried of each hyper-parameter that is a number and takes at least three."""
    tried = [choice.run.hparams for choice in candidates]
    found = {}
    for name, value in tried[0].items():
        if type(value) in (int, float):
            values = [hparams.get(name, math.nan) for hparams in tried]
            if len(set(values)) >= FEWEST_VALUES and {*map(type, values)} <= {int, float}:
                found[name] = values
    return found
