"""The report's paired differences as CSV."""

from dg_batchformer.selection.compare import Difference
from dg_batchformer.selection.formats.csv import csv_of, of_table
from dg_batchformer.selection.report import Report

COLUMNS = (
    *("selection", "protocol", "backbone", "others", "dataset", "change", "variant", "base", "environment"),
    *("n", "mean", "bootstrap_low", "bootstrap_high", "t_low", "t_high", "p", "p_holm", "wins", "ties", "losses"),
)


def render(report: Report) -> str:
    """Lines for each comparison, in points with all digits: all pairs (environment empty), by environment, by shot.

    `p` is not corrected; `p_holm` is corrected for all comparisons of a table, and empty in lines by environment.
    """
    lines: list[dict[str, object]] = []
    for result in report.results:
        for one in result.comparisons:
            names = {**of_table(result.section), "change": one.change, "variant": one.variant, "base": one.base}
            lines.append({**names, **_flat(one.overall), "p_holm": one.p_holm})
            lines += [{**names, "environment": name, **_flat(own)} for name, own in one.parts.items()]
    return csv_of(COLUMNS, lines)


def _flat(difference: Difference) -> dict[str, object]:
    low, high = difference.bootstrap or (None, None)
    t_low, t_high = difference.t or (None, None)
    limits = {"bootstrap_low": low, "bootstrap_high": high, "t_low": t_low, "t_high": t_high}
    return limits | {name: getattr(difference, name) for name in ("n", "mean", "p", "wins", "ties", "losses")}
