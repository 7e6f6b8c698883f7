"""A cell of the table: mean and error over trials, of one column or over columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dg_batchformer.selection.methods import Choice


@dataclass(frozen=True)
class Cell:
    """Accuracies in percent by trial, their mean and its error, and how many runs stand behind it.

    `mean` is None where there is no number, `error` where one trial or none tells none. `missing` says what is missing
    of what was planned ("" where nothing is), and `done` and `expected` count runs. `choices` are the chosen runs,
    those of all columns where the cell is over columns.
    """

    values: Mapping[int, float] = field(default_factory=dict)
    mean: float | None = None
    error: float | None = None
    missing: str = ""
    done: int = 0
    expected: int = 0
    choices: tuple[Choice, ...] = ()
    error_kind: str = "stderr"

    @classmethod
    def from_published(cls, mean: float, error: float | None = None, error_kind: str = "stderr") -> Cell:
        """A published number, behind which there is no run."""
        return cls(mean=mean, error=error, error_kind=error_kind)

    @property
    def n(self) -> int:
        """Trials behind the mean."""
        return len(self.values)


def standard_error(values: Sequence[float], ddof: int) -> float | None:
    """Standard error of the mean; `ddof` is 0, as DomainBed has it, or 1. None of fewer than two values."""
    if len(values) < 2:
        return None
    return float(np.std(np.array(values) / np.sqrt(len(values)), ddof=ddof))


def of_trials(
    chosen: Mapping[int, Choice],
    value: Callable[[Choice], float],
    missing: str,
    counts: tuple[int, int],
    ddof: int,
) -> Cell:
    """The cell of an environment: a value, a share, of each trial's choice; `counts` are done and expected runs."""
    shares = {trial: value(choice) for trial, choice in chosen.items()}
    recorded = not np.isnan(list(shares.values())).any()
    if not shares or not recorded:
        return Cell(missing=missing if recorded else "not recorded", done=counts[0], expected=counts[1])
    values = {trial: 100 * share for trial, share in shares.items()}
    mean = float(100 * np.mean(list(shares.values())))
    error = standard_error(list(values.values()), ddof)
    return Cell(values, mean, error, missing, *counts, tuple(chosen.values()))


def average(cells: Sequence[Cell], ddof: int) -> Cell:
    """The mean of the cells' means, as DomainBed prints it; nothing where a cell has no number.

    The error is that of the trials' averages, over the trials that all cells have.
    """
    means = [cell.mean for cell in cells if cell.mean is not None]
    return _over(cells, lambda own: float(np.mean(own)), ddof, sum(means) / len(means) if means else None)


def worst(cells: Sequence[Cell], ddof: int) -> Cell:
    """The mean over trials of the accuracy on each trial's worst environment; nothing where a cell has no number."""
    return _over(cells, min, ddof, None)


def _over(cells: Sequence[Cell], combine: Callable[[Sequence[float]], float], ddof: int, mean: float | None) -> Cell:
    """A cell over others, whose mean is that over the trials where `mean` is None."""
    counts = sum(cell.done for cell in cells), sum(cell.expected for cell in cells)
    full = [cell for cell in cells if cell.mean is not None]
    if len(full) < len(cells) or not cells:
        reasons = {cell.missing for cell in cells}
        missing = reasons.pop() if len(reasons) == 1 and not full else f"{len(full)} of {len(cells)} columns"
        return Cell({}, None, None, missing, *counts)
    shared = sorted(set.intersection(*(set(cell.values) for cell in cells)))
    values = {trial: combine([cell.values[trial] for cell in cells]) for trial in shared}
    fewest, most = min(cell.n for cell in cells), max(cell.n for cell in cells)
    missing = next((cell.missing for cell in sorted(cells, key=lambda cell: cell.n) if cell.missing), "")
    if len(values) < (fewest if missing else most):  # else the cell of the fewest trials says it
        missing = f"{len(values)} of {most} trials"
    if mean is None:
        mean = float(np.mean(list(values.values()))) if values else None
    choices = tuple(choice for cell in cells for choice in cell.choices)
    return Cell(values, mean, standard_error(list(values.values()), ddof), missing, *counts, choices)
