"""Learning curves of chosen runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dg_batchformer.runs import records
from dg_batchformer.runs.records import RunKey
from dg_batchformer.selection.methods import Choice, mean_validation
from dg_batchformer.selection.runs import Run, count_environments, made


@dataclass(frozen=True)
class Curve:
    """Accuracies in percent by step: the mean on the training environments' out-splits, and the test environment's.

    `chosen` is the step that was chosen, and `swad_window` the first and last step that SWAD averaged.
    """

    choice: Choice
    steps: tuple[int, ...]
    validation: tuple[float, ...]
    test: tuple[float, ...]
    swad_window: tuple[int, int] | None

    @property
    def chosen(self) -> int:
        return self.choice.step


def curve(choice: Choice) -> Curve:
    """The curve of a chosen run; where it yielded one model, that of the way there, from its `progress.jsonl`."""
    run = _with_progress(choice.run)
    window = choice.run.own["swad_window"]
    return Curve(
        choice,
        tuple(int(step) for step in run.steps),
        _percent(mean_validation(run, choice.env)),
        _percent(run.inside[:, choice.env]),
        (int(window[0]), int(window[1])) if window else None,
    )


def _percent(shares: np.ndarray) -> tuple[float, ...]:
    return tuple(round(100 * float(share), 4) for share in shares)


def _with_progress(run: Run) -> Run:
    """A run of one record with the checkpoints on the way there, as far as its folder has them."""
    path = Path(run.folder) / records.PROGRESS
    if len(run.steps) > 1 or not path.exists():
        return run
    n = run.n_environments
    rows = [row for row in records.read(path)[0] if RunKey.of(row["args"]) == run.key and count_environments(row) == n]
    return made(run.key, run.folder, rows, n) if rows else run
