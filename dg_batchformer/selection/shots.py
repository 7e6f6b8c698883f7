"""Accuracy by shot: of classes with many, with some and with few training images."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dg_batchformer.data import benchmark_of
from dg_batchformer.runs.details import BY_CLASS
from dg_batchformer.selection.cells import Cell, standard_error
from dg_batchformer.selection.methods import Choice, FinishedRun

MANY, MEDIUM, FEW, ZERO, WORST_CELL = "Many", "Medium", "Few", "Zero", "Worst cell"
COLUMNS = (MANY, MEDIUM, FEW, ZERO, WORST_CELL)


class Thresholds(NamedTuple):
    """Many-shot classes have more than `many` training images, few-shot ones 1 to `few` (Yang et al., ECCV 2022)."""

    many: int = 100
    few: int = 20

    def shot(self, count: int) -> str:
        if not count:
            return ZERO
        return MANY if count > self.many else FEW if count <= self.few else MEDIUM


def usual(dataset: str) -> Thresholds:
    """The thresholds of a dataset: published ones, else the default."""
    benchmark = benchmark_of(dataset)
    return Thresholds(*benchmark.shots) if benchmark else Thresholds()


class ClassCell(NamedTuple):
    """A class of a test environment: its training images, and its accuracy in [0, 1]."""

    name: str
    n_images: int
    accuracy: float


def training_images(run: FinishedRun, env: int) -> list[int]:
    """The training images of each class for a test environment; empty if not recorded.

    Those of all training environments if it is left out, else its own.
    """
    counts = list((run.made.get("class_counts") or {}).values())
    return [sum(own) for own in zip(*(counts if run.key.test_envs else counts[env : env + 1]), strict=True)]


def class_cells(choice: Choice) -> list[ClassCell]:
    """The classes of the test environment at the chosen checkpoint; empty if not recorded."""
    recorded = choice.recorded(BY_CLASS)
    if not recorded:
        return []
    counts = training_images(choice.run, choice.envs[0])
    names = choice.run.made.get("classes") or map(str, range(len(counts)))
    by_class = [_mean(own) for own in zip(*recorded, strict=True)]
    own = zip(names, counts, by_class, strict=True)
    return [ClassCell(name, count, accuracy) for name, count, accuracy in own if accuracy is not None]


def _mean(accuracies: Sequence[float | None]) -> float | None:
    known = [one for one in accuracies if one is not None]
    return sum(known) / len(known) if known else None


def class_means(cell: Cell) -> list[dict[str, Any]]:
    """The classes of an environment's cell: training images and accuracy in percent, means over trials."""
    found: dict[str, list[ClassCell]] = {}
    for one in itertools.chain(*map(class_cells, cell.choices)):
        found.setdefault(one.name, []).append(one)
    return [
        {
            "class": name,
            "n_images": round(float(np.mean([one.n_images for one in own])), 1),
            "accuracy": 100 * float(np.mean([one.accuracy for one in own])),
        }
        for name, own in found.items()
    ]


def by_shot(cells: Iterable[ClassCell], thresholds: Thresholds) -> dict[str, float]:
    """The mean accuracy of each shot that occurs, and the lowest accuracy of a cell."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        found.setdefault(thresholds.shot(cell.n_images), []).append(cell.accuracy)
    means = {name: float(np.mean(own)) for name, own in found.items()}
    return {**means, WORST_CELL: min(map(min, found.values()))} if found else {}


def columns_of(runs: Iterable[FinishedRun], thresholds: Thresholds) -> tuple[str, ...]:
    """The columns of the shots that occur in some runs."""
    shots = {
        thresholds.shot(count)
        for run in runs
        if run.made.get("class_counts")
        for env in run.key.test_envs or range(run.n_environments)
        for count in training_images(run, env)
    }
    return tuple(name for name in COLUMNS if name in shots or (name == WORST_CELL and shots))


def shot_cells(
    chosen: Sequence[Mapping[int, Choice]], columns: Sequence[str], thresholds: Thresholds, missing: str, ddof: int
) -> dict[str, Cell]:
    """The cells over all test environments, from the choices of each environment by trial.

    A trial counts if all environments have a choice; its value is the mean over all classes of a shot in all of them.
    """
    trials = sorted(set.intersection(*map(set, chosen))) if chosen else []
    choices = tuple(choice for own in chosen for choice in own.values())
    of_trials = {trial: [class_cells(own[trial]) for own in chosen] for trial in trials}
    recorded = all(cells for own in of_trials.values() for cells in own)
    found = {trial: by_shot(itertools.chain(*own), thresholds) for trial, own in of_trials.items()}
    cells = {}
    for column in columns:
        values = {trial: 100 * own[column] for trial, own in found.items() if column in own}
        if values and recorded:
            error = standard_error(values.values(), ddof)
            cells[column] = Cell(values, float(np.mean(list(values.values()))), error, missing, choices=choices)
        else:
            cells[column] = Cell(missing=missing if recorded else "not recorded")
    return cells
