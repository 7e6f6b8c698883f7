"""The selection table: a cell for each selection method, dataset, algorithm and environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dg_batchformer.registry import in_order
from dg_batchformer.selection.methods import METHODS
from dg_batchformer.selection.runs import Collected, Run, environment_names
from dg_batchformer.training.protocols import DOMAINBED
from dg_batchformer.training.records import RunKey

AVERAGE = "Avg"


@dataclass(frozen=True)
class Cell:
    """Accuracies, as shares, by trial, and what is missing of what was planned ("" where nothing is).

    `of_columns` are the means of the columns where the cell is an average over them.
    """

    values: dict[int, float] = field(default_factory=dict)
    missing: str = ""
    of_columns: tuple[float, ...] = ()

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """In percent."""
        if self.of_columns:
            return sum(self.of_columns) / len(self.of_columns)
        return float(100 * np.mean(list(self.values.values())))

    @property
    def stderr(self) -> float:
        """Standard error over trials in percent, with ddof 0, as DomainBed prints it."""
        return float(100 * np.std(np.array(list(self.values.values())) / np.sqrt(self.n)))


@dataclass(frozen=True)
class Section:
    """One table, of one protocol: algorithms down, environments across (or datasets, where `dataset` is "Avg")."""

    selection: str
    dataset: str
    columns: tuple[str, ...]
    rows: dict[str, dict[str, Cell]]
    protocol: str = DOMAINBED


def build(collected: Collected) -> list[Section]:
    """All tables of the collected runs, by selection method, protocol and dataset, then the averages over datasets."""
    sections = []
    for selection in METHODS:
        for protocol in sorted({key.protocol for key in collected.planned}):
            planned = {key for key in collected.planned if key.protocol == protocol}
            runs = [run for run in collected.runs if run.key.protocol == protocol]
            own = [_section(selection, dataset, protocol, runs, planned) for dataset in _datasets(planned)]
            sections += own
            if len(own) > 1:
                sections.append(_averages(selection, protocol, own))
    return sections


def _datasets(keys: Iterable[RunKey]) -> list[str]:
    return sorted({key.dataset for key in keys})


def _section(selection: str, dataset: str, protocol: str, runs: Sequence[Run], planned: set[RunKey]) -> Section:
    runs = [run for run in runs if run.key.dataset == dataset]
    planned = {key for key in planned if key.dataset == dataset}
    environments = environment_names(dataset, runs)
    trials = sorted({key.trial_seed for key in planned})
    rows = {}
    for algorithm in in_order(key.algorithm for key in planned):
        own = [run for run in runs if run.key.algorithm == algorithm]
        own_planned = {key for key in planned if key.algorithm == algorithm}
        cells = {name: _cell(selection, env, trials, own, own_planned) for env, name in enumerate(environments)}
        cells[AVERAGE] = average(list(cells.values()))
        rows[algorithm] = cells
    return Section(selection, dataset, (*environments, AVERAGE), rows, protocol)


def _cell(selection: str, env: int, trials: Sequence[int], runs: Sequence[Run], planned: set[RunKey]) -> Cell:
    values = {}
    for trial in trials:
        own = [run for run in runs if run.key.trial_seed == trial and env in run.key.test_envs]
        singles = [run for run in own if len(run.key.test_envs) == 1]
        choice = METHODS[selection](singles, [run for run in own if len(run.key.test_envs) == 2], env)
        if choice:
            values[trial] = choice.accuracy
    sizes = (1, 2) if selection == "leave-one-domain-out" else (1,)
    return Cell(values, _missing(len(values), env, trials, {run.key for run in runs}, planned, sizes))


def _missing(
    n: int, env: int, trials: Sequence[int], done: set[RunKey], planned: set[RunKey], sizes: Sequence[int]
) -> str:
    def of_cell(keys: Iterable[RunKey], size: int) -> int:
        return sum(env in key.test_envs and len(key.test_envs) == size for key in keys)

    if not of_cell(planned, 1):
        return "not run"
    if 2 in sizes and not of_cell(done, 2):
        return (
            f"needs pair runs: 0 of {of_cell(planned, 2)} done" if of_cell(planned, 2) else "needs pair runs (--pairs)"
        )
    if n < len(trials):
        return f"{n} of {len(trials)} trials"
    for size in sizes:
        if of_cell(done, size) < of_cell(planned, size):
            return f"{of_cell(done, size)} of {of_cell(planned, size)} runs"
    return ""


def average(cells: Sequence[Cell]) -> Cell:
    """The mean of the cells' means, as DomainBed prints it; nothing where a cell has no number.

    The standard error is that of the trials' averages, over the trials that all cells have.
    """
    empty = [cell for cell in cells if not cell.n]
    if empty or not cells:
        return Cell(missing=f"{len(cells) - len(empty)} of {len(cells)} columns")
    shared = set.intersection(*(set(cell.values) for cell in cells))
    values = {trial: float(np.mean([cell.values[trial] for cell in cells])) for trial in sorted(shared)}
    most = max(cell.n for cell in cells)
    missing = next((cell.missing for cell in cells if cell.missing), "")
    if len(values) < most:
        missing = f"{len(values)} of {most} trials"
    return Cell(values, missing, tuple(cell.mean for cell in cells))


def _averages(selection: str, protocol: str, sections: Sequence[Section]) -> Section:
    """Datasets across: each one's average over environments."""
    rows = {}
    for algorithm in in_order(name for section in sections for name in section.rows):
        cells = {
            section.dataset: section.rows.get(algorithm, {}).get(AVERAGE, Cell(missing="not run"))
            for section in sections
        }
        cells[AVERAGE] = average(list(cells.values()))
        rows[algorithm] = cells
    return Section(selection, AVERAGE, (*(section.dataset for section in sections), AVERAGE), rows, protocol)


def entries(sections: Sequence[Section]) -> list[dict[str, object]]:
    """The cells that have a number, flat: selection, protocol, dataset, algorithm, environment, mean, stderr, n."""
    return [
        {
            "selection": section.selection,
            "protocol": section.protocol,
            "dataset": section.dataset,
            "algorithm": algorithm,
            "environment": column,
            "mean": cell.mean,
            "stderr": cell.stderr,
            "n": cell.n,
        }
        for section in sections
        for algorithm, cells in section.rows.items()
        for column, cell in cells.items()
        # A dataset's own average stands in its own section already.
        if cell.n and not (section.dataset == AVERAGE and column != AVERAGE)
    ]
