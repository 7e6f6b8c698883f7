"""The report's paired differences as CSV."""

from dg_batchformer.selection.compare import Comparison, Difference
from dg_batchformer.selection.formats.csv import csv_of, of_table
from dg_batchformer.selection.inference import Interval
from dg_batchformer.selection.report import Report

COLUMNS = (
    *("selection", "protocol", "backbone", "others", "dataset", "change", "variant", "base", "environment"),
    *("n", "n_trials", "mean", "low", "high", "p", "new_low", "new_high", "wins", "ties", "losses"),
    *("n_comparisons", "simultaneous_low", "simultaneous_high", "p_corrected", "verdict", "new_verdict", "sign_flip_p"),
    *("probability_worse", "probability_equivalent", "probability_better", "rope", "improvement", "detectable"),
    "chosen",
)


def render(report: Report) -> str:
    """Lines for each comparison, in points with all digits: all pairs (environment empty), by environment, by shot.

    `low`, `high` and `p` are for these environments, those with `new` for new ones, neither corrected; the columns from
    `n_comparisons` on are corrected for a family, and empty in lines by environment.
    """
    lines: list[dict[str, object]] = []
    for result in report.results:
        for one in result.comparisons:
            names = {**of_table(result.section), "change": one.change, "variant": one.variant, "base": one.base}
            lines.append({**names, **_flat(one.overall), **_of_family(one)})
            lines += [{**names, "environment": name, **_flat(own)} for name, own in one.parts.items()]
    return csv_of(COLUMNS, lines)


def _flat(difference: Difference) -> dict[str, object]:
    these, new = difference.these, difference.new
    return {
        **{name: getattr(difference, name) for name in ("n", "n_trials", "mean", "wins", "ties", "losses")},
        **_limits("", these.interval() if these else None),
        **_limits("new_", new.interval() if new else None),
        "p": these.p if these else None,
    }


def _of_family(one: Comparison) -> dict[str, object]:
    worse, equivalent, better = one.probabilities or (None, None, None)
    return {
        **{name: getattr(one, name) for name in ("n_comparisons", "verdict", "new_verdict", "rope")},
        **{name: getattr(one, name) for name in ("improvement", "detectable")},
        **_limits("simultaneous_", one.interval),
        "p_corrected": one.p,
        "sign_flip_p": one.sign_flip,
        "chosen": one.as_selected,
        "probability_worse": worse,
        "probability_equivalent": equivalent,
        "probability_better": better,
    }


def _limits(prefix: str, interval: Interval | None) -> dict[str, object]:
    low, high = interval or (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}
