"""The report's cells as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence

from dg_batchformer.selection.report import Report
from dg_batchformer.selection.table import Section

OF_CELL = ("mean", "error", "error_kind", "n", "done", "expected", "missing")
COLUMNS = (
    *("selection", "protocol", "backbone", "others", "dataset", "algorithm", "given_hparams", "source", "environment"),
    *(*OF_CELL, "seeds"),
)


def render(report: Report) -> str:
    """A line for each cell, also without a number; means and errors have all digits."""
    return csv_of(COLUMNS, cells(report))


def cells(report: Report) -> list[dict[str, object]]:
    """The cells as flat rows; the average of a dataset stands in its table only."""
    found = []
    for section in (result.section for result in report.results):
        skipped = section.own_columns if section.is_over_datasets else ()
        for row in section.rows:
            own = {"algorithm": row.algorithm, "given_hparams": row.key.given, "source": row.source, "seeds": row.seeds}
            for column in section.columns:
                if column not in skipped:
                    cell = {name: getattr(row.cells[column], name) for name in OF_CELL}
                    found.append({**of_table(section), **own, "environment": column, **cell})
    return found


def of_table(section: Section) -> dict[str, object]:
    """The columns that all lines of a table share: the selection method and the setting."""
    setting = section.setting._asdict()
    others = json.dumps(dict(section.setting.others)) if section.setting.others else ""
    return {"selection": section.selection, **setting, "others": others}


def csv_of(columns: Sequence[str], lines: Iterable[Mapping[str, object]]) -> str:
    """Lines with a header as CSV."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()
