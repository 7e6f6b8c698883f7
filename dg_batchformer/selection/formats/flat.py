"""The report's cells as CSV."""

from __future__ import annotations

import csv
import io
import json

from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.report import Report
from dg_batchformer.selection.table import Section

COLUMNS = (
    *("selection", "protocol", "backbone", "others", "dataset", "algorithm", "given_hparams", "source", "environment"),
    *("mean", "error", "error_kind", "n", "done", "expected", "missing", "seeds"),
)


def csv_table(report: Report) -> str:
    """One line a cell, also of those without a number; means and errors to the last digit."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells(report))
    return file.getvalue()


def cells(report: Report) -> list[dict[str, object]]:
    """The cells, flat; a dataset's own average stands in its own table alone."""
    found: list[dict[str, object]] = []
    for result in report.results:
        section = result.section
        columns = section.columns
        if section.is_over_datasets:
            columns = tuple(column for column in columns if column not in section.own_columns)
        for row in section.rows:
            of_row = {
                **of_table(section),
                "algorithm": row.algorithm,
                "given_hparams": row.key.given,
                "source": row.source,
                "seeds": row.seeds,
            }
            found += [{**of_row, "environment": column, **_cell(row.cells[column])} for column in columns]
    return found


def of_table(section: Section) -> dict[str, object]:
    """What all lines of a table say: by which method it chose, and its setting."""
    setting = section.setting
    return {
        "selection": section.selection,
        "protocol": setting.protocol,
        "backbone": setting.backbone,
        "others": json.dumps(dict(setting.others)) if setting.others else "",
        "dataset": setting.dataset,
    }


def _cell(cell: Cell) -> dict[str, object]:
    names = ("mean", "error", "error_kind", "n", "done", "expected", "missing")
    return {name: getattr(cell, name) for name in names}
