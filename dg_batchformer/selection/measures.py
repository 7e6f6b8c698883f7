"""Columns on request: calibration, proper scores, and the gap; and the confusion matrix of a cell.

All but the gap are recorded by runs with `--save_predictions`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dg_batchformer.runs.details import CONFUSION
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.methods import Choice, mean_validation

GAP = "gap"
MEASURES = {"ece": "ECE", "brier": "Brier", "nll": "NLL", GAP: "Gap"}
"""The columns by the names of `--columns`; in all of them lower is better."""

COLUMNS = tuple(MEASURES.values())


def value(choice: Choice, column: str) -> float:
    """The value of a choice in a column, a mean over its test environments; NaN if not recorded."""
    (name,) = (one for one, title in MEASURES.items() if title == column)
    if name == GAP:
        return float(mean_validation(choice.run)[choice.checkpoints].mean()) - choice.accuracy
    recorded = choice.recorded(name)
    return float(np.mean(recorded)) if recorded else math.nan


def confusion(cell: Cell) -> dict[str, Any] | None:
    """The counts (classes, classes) of a cell over its chosen checkpoints, rows are labels; None if not recorded."""
    recorded = [choice.recorded(CONFUSION) for choice in cell.choices]
    matrices = [matrix for own in recorded for matrix in own]
    if not recorded or not all(recorded) or len({(len(one), *map(len, one)) for one in matrices}) > 1:
        return None
    return {"classes": classes_of(cell.choices, len(matrices[0])), "counts": np.sum(matrices, axis=0).tolist()}


def classes_of(choices: Sequence[Choice], n: int) -> list[str]:
    """The recorded names of n classes, else numbers."""
    names = choices[0].run.made.get("classes") or ()
    return [str(name) for name in names] if len(names) == n else [str(i) for i in range(n)]
