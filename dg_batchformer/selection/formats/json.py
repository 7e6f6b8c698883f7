"""The report as one JSON document; the page shows the same."""

import datetime
import json
import shlex
from pathlib import Path
from typing import Any

from dg_batchformer import __version__
from dg_batchformer.runs import records
from dg_batchformer.runs.files import PROGRESS
from dg_batchformer.selection import by_kind
from dg_batchformer.selection.blocks import best, legend, over_all
from dg_batchformer.selection.compare import Difference
from dg_batchformer.selection.inference import Estimate
from dg_batchformer.selection.measures import confusion
from dg_batchformer.selection.methods import ORACLE, TITLES, Choice, FinishedRun, mean_validation
from dg_batchformer.selection.report import Report, Result, command
from dg_batchformer.selection.settings import environment_names
from dg_batchformer.selection.shots import class_means

Document = dict[str, Any]


def render(report: Report) -> str:
    """The document, without learning curves."""
    return json.dumps(document(report, with_curves=False), indent=1) + "\n"


def document(report: Report, *, with_curves: bool) -> Document:
    """A report as plain values; accuracies and differences in percent."""
    results = [_result(result, report, with_curves=with_curves) for result in report.results]
    return {
        "made_by": f"dg-batchformer {__version__}",
        "made_at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "title": report.title,
        "folders": list(report.folders),
        "runs": report.n_runs,
        "legend": legend(report),
        "problems": [{"kind": kind, "n": len(own), "texts": own} for kind, own in by_kind(report.problems).items()],
        "apart": report.apart,
        "results": [{"id": f"r{i}", **result} for i, result in enumerate(results)],
    }


def _of(value: object, *names: str) -> Document:
    """The attributes of those names."""
    return {name: getattr(value, name) for name in names}


def _result(result: Result, report: Report, *, with_curves: bool) -> Document:
    section, setting, marked = result.section, result.section.setting, best(result.section)
    explain = ["dg-batchformer", "leaderboard", *report.folders, "--selection", section.selection, "--command"]
    rows = []
    for row in section.rows:
        cells = {
            column: {
                **_of(cell, "mean", "error", "error_kind", "n"),
                "values": {str(trial): value for trial, value in cell.values.items()},
                **_of(cell, "done", "expected", "missing"),
                "best": (row.label, column) in marked,
                "choices": [_choice(choice) for choice in cell.choices],
                "command": shlex.join([*explain, result.name_of(row, column)]) if cell.choices else None,
            }
            for column, cell in row.cells.items()
        }
        own: Document = {"algorithm": row.algorithm, "label": row.label, "given_hparams": row.key.given}
        own |= {**_of(row, "source", "rank", "seeds"), "cells": cells}
        if section.shots:
            own["classes"] = [
                {"environment": column, **one}
                for column in section.own_columns
                for one in class_means(row.cells[column])
            ]
        if not section.is_over_datasets:
            matrices = {column: confusion(row.cells[column]) for column in section.own_columns}
            own |= {"confusion": found} if (found := {k: v for k, v in matrices.items() if v}) else {}
        own["edges"] = [str(edge) for edge in result.edges.get(row.label, ())]
        if with_curves:
            columns = () if section.is_over_datasets else section.own_columns
            own["curves"] = [_curve(column, choice) for column in columns for choice in row.cells[column].choices]
        rows.append(own)
    return {
        "selection": section.selection,
        "selection_title": TITLES[section.selection],
        "oracle": section.selection == ORACLE,
        "dataset": section.dataset,
        "setting": {**_of(setting, "dataset", "protocol", "backbone"), **dict(setting.others)},
        **_of(result, "title", "caption", "lacking"),
        "columns": list(section.columns),
        "environments": list(section.own_columns),
        "measures": list(section.measures),
        "rows": rows,
        "comparisons": [
            {
                **_of(one, "modifier", "change", "variant", "base", "title"),
                "overall": _difference(one.overall),
                "environments": {column: _difference(own) for column, own in one.columns.items()},
                "shots": {shot: _difference(own) for shot, own in one.shots.items()},
                **_of(one, "verdict", "interval", "p", "new_verdict", "new_interval", "sign_flip", "n_comparisons"),
                **_of(one, "rope", "improvement", "detectable", "as_selected", "words"),
                "probabilities": one.probabilities._asdict() if one.probabilities else None,
                "table": over_all(one),
            }
            for one in result.comparisons
        ],
    }


def _choice(choice: Choice) -> Document:
    key = choice.run.key
    return {
        **_of(key, "trial_seed", "hparams_seed"),
        "step": choice.step,
        "environment": "+".join(environment_names(key.dataset, [choice.run])[env] for env in choice.envs),
        "validation": 100 * choice.validation,
        "accuracy": 100 * choice.accuracy,
        "folder": choice.run.folder,
        "command": command(choice.run),
    }


def _difference(difference: Difference) -> Document:
    return {
        **_of(difference, "mean", "n", "n_trials", "wins", "ties", "losses"),
        "these": _estimate(difference.these),
        "new": _estimate(difference.new),
        "units": [
            {"environment": "/".join(dict.fromkeys(unit[:2])), "trial_seed": unit.trial_seed, "difference": value}
            for unit, value in difference.units.items()
        ],
    }


def _estimate(estimate: Estimate | None) -> Document | None:
    return {**_of(estimate, "error", "df", "p"), "interval": estimate.interval()} if estimate else None


def _curve(column: str, choice: Choice) -> Document:
    return {"environment": column, **_of(choice.run.key, "trial_seed", "hparams_seed"), **curve(choice)}


def curve(choice: Choice) -> Document:
    """A chosen run by step: mean accuracy on the training environments' out-splits, and on the test environment.

    A run with one final model has them in `progress.jsonl`, if at all. `chosen` is the chosen step, `swad_window` the
    first and last step that SWAD averaged.
    """
    run, window = choice.run, choice.run.made.get("swad_window")
    progress = Path(run.folder) / PROGRESS
    if len(run.steps) == 1 and progress.exists():
        about = run.key, run.n_environments
        rows = [row for row in records.read(progress)[0] if (row.about.key, row.about.n_environments) == about]
        run = FinishedRun.from_records(run.folder, rows) if rows else run
    validation, test = mean_validation(run), run.inside[:, list(choice.envs)].mean(axis=1)
    return {
        "steps": run.steps.tolist(),
        "validation": [round(100 * share, 4) for share in validation.tolist()],
        "test": [round(100 * share, 4) for share in test.tolist()],
        "chosen": choice.step,
        "swad_window": (int(window[0]), int(window[1])) if window else None,
    }
