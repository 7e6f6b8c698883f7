"""The report as one JSON document, which the page shows too."""

from __future__ import annotations

import datetime
import json
import shlex
from pathlib import Path
from typing import Any

from dg_batchformer import __version__
from dg_batchformer.runs import records
from dg_batchformer.runs.files import PROGRESS
from dg_batchformer.selection.blocks import legend, places
from dg_batchformer.selection.collect import by_kind
from dg_batchformer.selection.compare import Comparison, Difference
from dg_batchformer.selection.methods import ORACLE, TITLES, Cell, Choice, FinishedRun, Floats, mean_validation
from dg_batchformer.selection.report import Report, Result, command
from dg_batchformer.selection.settings import environment_names
from dg_batchformer.selection.table import Row

Document = dict[str, Any]


def render(report: Report) -> str:
    """The document, without learning curves."""
    return json.dumps(document(report, with_curves=False), indent=1) + "\n"


def document(report: Report, *, with_curves: bool) -> Document:
    """All that a report says, as plain values; accuracies and differences in percent."""
    return {
        "made_by": f"dg-batchformer {__version__}",
        "made_at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "title": report.title,
        "folders": list(report.folders),
        "runs": report.n_runs,
        "legend": legend(report),
        "problems": [
            {"kind": kind, "n": len(texts), "texts": texts} for kind, texts in by_kind(report.problems).items()
        ],
        "apart": list(report.apart),
        "results": [
            {"id": f"r{i}", **_result(result, report, with_curves=with_curves)}
            for i, result in enumerate(report.results)
        ],
    }


def _result(result: Result, report: Report, *, with_curves: bool) -> Document:
    section, setting, place = result.section, result.section.setting, places(result.section)
    return {
        "selection": section.selection,
        "selection_title": TITLES[section.selection],
        "oracle": section.selection == ORACLE,
        "dataset": section.dataset,
        "setting": {**_of(setting, "dataset", "protocol", "backbone"), **dict(setting.others)},
        **_of(result, "title", "caption", "lacking"),
        "columns": list(section.columns),
        "environments": list(section.own_columns),
        "rows": [
            {
                "algorithm": row.algorithm,
                "label": row.label,
                "given_hparams": row.key.given,
                **_of(row, "source", "rank", "seeds"),
                "cells": {
                    column: {
                        **_cell(cell, place.get((row.label, column))),
                        "command": _command(report, result, row, column) if cell.choices else None,
                    }
                    for column, cell in row.cells.items()
                },
                "edges": [str(edge) for edge in result.edges.get(row.label, ())],
                **({"curves": _curves(row, result)} if with_curves else {}),
            }
            for row in section.rows
        ],
        "comparisons": [_comparison(one) for one in result.comparisons],
    }


def _of(value: object, *names: str) -> Document:
    """The attributes of those names."""
    return {name: getattr(value, name) for name in names}


def _cell(cell: Cell, place: int | None) -> Document:
    return {
        **_of(cell, "mean", "error", "error_kind", "n"),
        "values": {str(trial): value for trial, value in cell.values.items()},
        **_of(cell, "done", "expected", "missing"),
        "best": place == 1,
        "second": place == 2,
        "choices": [_choice(choice) for choice in cell.choices],
    }


def _choice(choice: Choice) -> Document:
    key = choice.run.key
    return {
        "trial_seed": key.trial_seed,
        "hparams_seed": key.hparams_seed,
        "step": choice.step,
        "environment": environment_names(key.dataset, [choice.run])[choice.env],
        "validation": 100 * choice.validation,
        "accuracy": 100 * choice.accuracy,
        "folder": choice.run.folder,
        "command": command(choice.run),
    }


def _command(report: Report, result: Result, row: Row, column: str) -> str:
    """The command that says what stands behind a cell."""
    words = ["dg-batchformer", "leaderboard", *report.folders, "--selection", result.section.selection]
    return shlex.join([*words, "--command", result.name_of(row, column)])


def _curves(row: Row, result: Result) -> list[Document]:
    return [
        {
            "environment": column,
            "trial_seed": choice.run.key.trial_seed,
            "hparams_seed": choice.hparams_seed,
            **curve(choice),
        }
        for column in result.section.own_columns
        if not result.section.is_over_datasets
        for choice in row.cells[column].choices
    ]


def curve(choice: Choice) -> Document:
    """A chosen run by step: mean accuracy on the training environments' out-splits, and that on the test environment.

    Where the run yielded one model, they are those of the way there, from its `progress.jsonl`. `chosen` is the step
    that was chosen, and `swad_window` the first and last step that SWAD averaged.
    """
    run = _with_progress(choice.run)
    window = choice.run.made.get("swad_window")
    return {
        "steps": run.steps.tolist(),
        "validation": _percent(mean_validation(run, choice.env)),
        "test": _percent(run.inside[:, choice.env]),
        "chosen": choice.step,
        "swad_window": (int(window[0]), int(window[1])) if window else None,
    }


def _percent(shares: Floats) -> list[float]:
    return [round(100 * share, 4) for share in shares.tolist()]


def _with_progress(run: FinishedRun) -> FinishedRun:
    """A run of one record with the checkpoints on the way there, as far as its folder has them."""
    path = Path(run.folder) / PROGRESS
    if len(run.steps) > 1 or not path.exists():
        return run
    of_run = run.key, run.n_environments
    rows = [row for row in records.read(path)[0] if (row.about.key, row.about.n_environments) == of_run]
    return FinishedRun.from_records(run.folder, rows) if rows else run


def _comparison(comparison: Comparison) -> Document:
    return {
        **_of(comparison, "modifier", "change", "variant", "base"),
        "overall": _difference(comparison.overall),
        "environments": {column: _difference(one) for column, one in comparison.columns.items()},
        **_of(comparison, "p_holm", "n_comparisons", "as_selected", "words"),
    }


def _difference(difference: Difference) -> Document:
    return {
        **_of(difference, "mean", "n", "bootstrap", "t", "p", "wins", "ties", "losses"),
        "units": [
            {"environment": "/".join(dict.fromkeys(unit[:2])), "trial_seed": unit.trial_seed, "difference": value}
            for unit, value in difference.units.items()
        ],
    }
