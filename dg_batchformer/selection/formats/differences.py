"""The report's paired differences as CSV."""

from __future__ import annotations

import csv
import io

from dg_batchformer.selection.formats.flat import of_table
from dg_batchformer.selection.pairs import Comparison, Difference
from dg_batchformer.selection.report import Report

COLUMNS = (
    *("selection", "protocol", "backbone", "others", "dataset", "change", "variant", "base", "environment"),
    *("n", "mean", "bootstrap_low", "bootstrap_high", "t_low", "t_high", "p", "p_holm", "wins", "ties", "losses"),
)


def csv_differences(report: Report) -> str:
    """Lines for each comparison, in points to the last digit: one over all pairs, without an environment, then by it.

    `p_holm` is corrected for the comparisons over all pairs of a table, and empty by environment; `p` is not corrected.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in report.results:
        alike = of_table(result.section)
        writer.writerows({**alike, **line} for one in result.comparisons for line in lines(one))
    return file.getvalue()


def lines(comparison: Comparison) -> list[dict[str, object]]:
    """A comparison over all pairs, then by environment."""
    names = {"change": comparison.change, "variant": comparison.variant, "base": comparison.base}
    overall = {**flat(comparison.overall), "p_holm": comparison.p_holm}
    columns = [{"environment": name, **flat(one)} for name, one in comparison.columns.items()]
    return [{**names, **line} for line in (overall, *columns)]


def flat(difference: Difference) -> dict[str, object]:
    low, high = difference.bootstrap or (None, None)
    t_low, t_high = difference.t or (None, None)
    limits = {"bootstrap_low": low, "bootstrap_high": high, "t_low": t_low, "t_high": t_high}
    return limits | {name: getattr(difference, name) for name in ("n", "mean", "p", "wins", "ties", "losses")}
