"""The cells of a table: an accuracy over trials with its error, and averages over cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dg_batchformer.selection.methods import Choice


@dataclass(frozen=True)
class Cell:
    """Accuracies in percent by trial, their mean and its error, and how many runs stand behind it.

    `mean` is None if there is no number, `error` if there are fewer than two trials. `missing` names the missing
    part of the plan ("" if complete); `done` and `expected` count runs. `choices` are the chosen runs, of all columns
    if the cell is over columns. A published number has none.
    """

    values: Mapping[int, float] = field(default_factory=dict)
    mean: float | None = None
    error: float | None = None
    missing: str = ""
    done: int = 0
    expected: int = 0
    choices: tuple[Choice, ...] = ()
    error_kind: str = "stderr"

    @property
    def n(self) -> int:
        """Trials behind the mean."""
        return len(self.values)


def standard_error(values: Iterable[float], ddof: int) -> float | None:
    """Standard error of the mean; `ddof` is 0, as in DomainBed, or 1. None for fewer than two values."""
    array = np.array(list(values))
    return float(np.std(array / np.sqrt(len(array)), ddof=ddof)) if len(array) > 1 else None


def of_trials(
    chosen: Mapping[int, Choice], value: Callable[[Choice], float], missing: str, counts: tuple[int, int], ddof: int
) -> Cell:
    """The cell of an environment: the accuracy of each trial's choice; `counts` are done and expected runs."""
    shares = [value(choice) for choice in chosen.values()]
    if np.isnan(shares).any():
        missing, shares = "not recorded", []
    if not shares:
        return Cell({}, None, None, missing, *counts)
    values = {trial: 100 * share for trial, share in zip(chosen, shares, strict=True)}
    mean = float(100 * np.mean(shares))
    return Cell(values, mean, standard_error(values.values(), ddof), missing, *counts, tuple(chosen.values()))


def average(cells: Sequence[Cell], ddof: int) -> Cell:
    """The mean of the cells' means, as DomainBed prints it; no number if a cell has none.

    The error is over the averages of the trials that all cells have.
    """
    means = [cell.mean for cell in cells if cell.mean is not None]
    return _over(cells, lambda own: float(np.mean(own)), ddof, sum(means) / len(means) if means else None)


def worst(cells: Sequence[Cell], ddof: int) -> Cell:
    """The mean over trials of the accuracy on the worst environment; no number if a cell has none."""
    return _over(cells, min, ddof, None)


def _over(cells: Sequence[Cell], combine: Callable[[Sequence[float]], float], ddof: int, mean: float | None) -> Cell:
    """A cell over other cells; if `mean` is None it is the mean over the trials."""
    counts = sum(cell.done for cell in cells), sum(cell.expected for cell in cells)
    full = [cell for cell in cells if cell.mean is not None]
    if len(full) < len(cells) or not cells:
        reasons = {cell.missing for cell in cells}
        missing = reasons.pop() if len(reasons) == 1 and not full else f"{len(full)} of {len(cells)} columns"
        return Cell({}, None, None, missing, *counts)
    shared = sorted(set.intersection(*(set(cell.values) for cell in cells)))
    values = {trial: combine([cell.values[trial] for cell in cells]) for trial in shared}
    by_trials = sorted(cells, key=lambda cell: cell.n)
    missing = next((cell.missing for cell in by_trials if cell.missing), "")
    fewest, most = by_trials[0].n, by_trials[-1].n
    if len(values) < (fewest if missing else most):  # else the cell with the fewest trials names it
        missing = f"{len(values)} of {most} trials"
    if mean is None and values:
        mean = float(np.mean(list(values.values())))
    choices = tuple(choice for cell in cells for choice in cell.choices)
    return Cell(values, mean, standard_error(values.values(), ddof), missing, *counts, choices)
