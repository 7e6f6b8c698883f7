"""How a report's values are worded: the legend, cells, differences, intervals and p-values."""

from __future__ import annotations

from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.compare import HYPER_PARAMETER, Comparison, Difference
from dg_batchformer.selection.report import Report, Result, all_cells
from dg_batchformer.selection.statistics import FEWEST_TO_RESAMPLE, Interval
from dg_batchformer.selection.table import Section

ORACLE_FENCE = "Chosen on test data, for comparison only: do not report these as results"


def legend(report: Report) -> list[str]:
    """What the numbers of a report are, sentence by sentence."""
    if not report.results:
        return ["There is no table: no run is done."]
    sections = [result.section for result in report.results]
    protocols = {section.setting.protocol for section in sections}
    sentences = [
        "Accuracy in percent on the in-split (80 % unless said otherwise) of the environment left out; out-splits "
        "choose the checkpoint and the hyper-parameters.",
        f"Mean ± standard error (ddof {report.ddof}{', as DomainBed has it' * (report.ddof == 0)}) over trials, each "
        "with its own splits.",
        "Avg is the mean of the columns' means, Worst the mean over trials of the lowest column, Macro the average of "
        "accuracies averaged over classes.",
    ]
    if "tllib" in protocols:
        sentences.insert(1, "Under protocol tllib the accuracy is that on all images of the environment left out.")
    if any(result.comparisons for result in report.results):
        sentences.append(
            "Changes are in points, of runs with equal environment, trial and hparams_seed. '95 %' is "
            f"the bootstrap interval of the mean over trials and environments, from {FEWEST_TO_RESAMPLE} pairs on; the "
            "sentences have Student's. W/T/L counts wins, ties and losses; p is of the paired t-test, corrected (Holm) "
            "for all comparisons under one table. 'Chosen' is the difference of the two Avg above, each with "
            "hyper-parameters of its own choice. Pairs are taken as independent: a claim about environments other than "
            "these needs more of them."
        )
    cells = (cell for section in sections for cell in all_cells(section))
    if any(cell.error_kind == "std" and cell.error is not None for cell in cells):
        sentences.append("SD is a standard deviation over runs, as published.")
    return sentences


def cell_text(cell: Cell) -> str:
    """A cell's mean and error, and in brackets what is missing."""
    if cell.mean is None:
        return f"({cell.missing or 'no run'})"
    text = f"{cell.mean:.1f}"
    if cell.error is not None:
        # A deviation is no error of the mean, and must not look like one.
        text += f" (SD {cell.error:.1f})" if cell.error_kind == "std" else f" ± {cell.error:.1f}"
    return f"{text} ({cell.missing})" if cell.missing else text


def places(section: Section) -> dict[tuple[str, str], int]:
    """1 for the best and 2 for the second of each column, by label and column, as printed; equal ones share a place."""
    found: dict[tuple[str, str], int] = {}
    for column in section.columns:
        printed = {row.label: round(mean, 1) for row in section.rows if (mean := row.cells[column].mean) is not None}
        first_two = sorted(set(printed.values()), reverse=True)[:2]
        if len(printed) > 1:
            found |= {(label, column): first_two.index(v) + 1 for label, v in printed.items() if v in first_two}
    return found


def comparison_title(result: Result) -> str:
    """What the comparisons of a table show."""
    kinds = {"given hyper-parameter" if one.modifier == HYPER_PARAMETER else "modifier" for one in result.comparisons}
    return f"What each {' and '.join(sorted(kinds, reverse=True))} changed"


def comparison_name(comparison: Comparison) -> str:
    """What is compared with what."""
    return f"{comparison.variant} - {comparison.base}"


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return "" if value is None else f"{value:+.1f}"


def interval(limits: Interval | None) -> str:
    """An interval's two ends."""
    return "too few" if limits is None else f"{limits[0]:+.1f} to {limits[1]:+.1f}"


def wins(difference: Difference) -> str:
    """Wins, ties and losses."""
    return f"{difference.wins}/{difference.ties}/{difference.losses}"


def p_value(p: float) -> str:
    """A p-value to three places."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
