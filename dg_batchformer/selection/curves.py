"""Learning curves of chosen runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dg_batchformer.runs import records
from dg_batchformer.runs.files import PROGRESS
from dg_batchformer.selection.methods import Choice, mean_validation
from dg_batchformer.selection.read import FinishedRun, Floats


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
    window = choice.run.made.get("swad_window")
    return Curve(
        choice,
        tuple(int(step) for step in run.steps),
        _percent(mean_validation(run, choice.env)),
        _percent(run.inside[:, choice.env]),
        (int(window[0]), int(window[1])) if window else None,
    )


def _percent(shares: Floats) -> tuple[float, ...]:
    return tuple(round(100 * float(share), 4) for share in shares)


def _with_progress(run: FinishedRun) -> FinishedRun:
    """A run of one record with the checkpoints on the way there, as far as its folder has them."""
    path = Path(run.folder) / PROGRESS
    if len(run.steps) > 1 or not path.exists():
        return run
    of_run = run.key, run.n_environments
    rows = [row for row in records.read(path)[0] if (row.about.key, row.about.n_environments) == of_run]
    return FinishedRun.from_records(run.folder, rows) if rows else run
