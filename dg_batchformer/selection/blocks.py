"""A report as blocks, which text, Markdown and LaTeX render; and the wording of its values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.compare import HYPER_PARAMETER, Comparison
from dg_batchformer.selection.inference import FAMILIES, FEWEST_ENVIRONMENTS, LEVEL, Interval, on_these
from dg_batchformer.selection.methods import ORACLE
from dg_batchformer.selection.report import Report, Result
from dg_batchformer.selection.table import Section

ORACLE_FENCE = "Selected on test data, for comparison only: do not report these as results"

COMPARISON_COLUMNS = ("Mean", "These environments", "p", "New environments", "Improves", "80 % power", "Chosen")
"""Right of the columns of the table whose rows are compared."""


@dataclass(frozen=True)
class Fence:
    """A warning that applies to all blocks after it."""

    text: str


@dataclass(frozen=True)
class Lacking:
    """A table without a number, and the reason."""

    title: str
    text: str


class Printed(NamedTuple):
    """A printed number; `is_best`: the best of its column, or not significantly different from it."""

    text: str
    is_best: bool = False


class Line(NamedTuple):
    """A row of a grid: its names and its numbers."""

    left: Sequence[str]
    numbers: Sequence[Printed]


@dataclass(frozen=True)
class Grid:
    """A table of accuracies or of their changes: names in the `left` columns, numbers in `columns`, notes below."""

    title: str
    caption: str
    left: Sequence[str]
    columns: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str]
    is_of_changes: bool = False


Block = Fence | Lacking | Grid


def blocks(report: Report) -> Iterator[Block]:
    """The tables of a report; a fence stands before the first one selected on test data."""
    fenced = False
    for result in report.results:
        if result.section.selection == ORACLE and not fenced:
            fenced = True
            yield Fence(ORACLE_FENCE)
        if result.lacking:
            yield Lacking(result.title, result.lacking)
            continue
        yield _accuracies(result)
        if result.comparisons:
            yield _changes(result)


def _accuracies(result: Result) -> Grid:
    section, marked = result.section, best(result.section)
    has_ranks, has_sources = any(row.rank for row in section.rows), any(row.source for row in section.rows)
    left = ["Rank"] * has_ranks + ["Algorithm"] + ["Source"] * has_sources
    lines = []
    for row in section.rows:
        names = {"Rank": str(row.rank or ""), "Algorithm": row.label, "Source": row.source or "runs"}
        numbers = [Printed(cell_text(row.cells[name]), (row.label, name) in marked) for name in section.columns]
        lines.append(Line([names[name] for name in left], numbers))
    notes = [f"{label}: {edge}" for label, edges in result.edges.items() for edge in edges]
    return Grid(result.title, result.caption, left, section.columns, lines, notes)


def _changes(result: Result) -> Grid:
    columns = (*result.section.own_columns, *result.section.shots)
    kinds = {"given hyper-parameter" if one.modifier == HYPER_PARAMETER else "modifier" for one in result.comparisons}
    lines = []
    for one in result.comparisons:
        means = [one.parts[column].mean if column in one.parts else None for column in columns]
        texts = [*map(signed, means), *over_all(one)]
        lines.append(Line([one.name], list(map(Printed, texts))))
    return Grid(
        f"What each {' and '.join(sorted(kinds, reverse=True))} changed",
        f"{result.title}; {result.caption}",
        ["Variant - base"],
        [*columns, *COMPARISON_COLUMNS],
        lines,
        [f"{one.title}: {one.words}" for one in result.comparisons],
        is_of_changes=True,
    )


def legend(report: Report) -> list[str]:
    """Sentences that explain the numbers of a report."""
    if not report.results:
        return ["No table: no run is done."]
    sections = [result.section for result in report.results]
    protocols = {section.setting.protocol for section in sections}
    left_out = [
        "Numbers are accuracies in percent on the in-split (80 % by default) of the left-out environment. Out-splits "
        "select the checkpoint and the hyper-parameters."
    ]
    none_left_out = [
        "With test_envs none, numbers are accuracies in percent on the test splits of the environments, all of which "
        "are trained on; the validation splits of all select."
    ]
    left_out += [
        "In a column such as A+C these environments were left out together; its number is the mean of their accuracies."
    ] * any(section.is_of_sets for section in sections)
    sentences = [
        *left_out * any(section.setting.leaves_out for section in sections),
        *none_left_out * (not all(section.setting.leaves_out for section in sections)),
        f"Mean ± standard error (ddof {report.ddof}{', as in DomainBed' * (report.ddof == 0)}) over trials; each "
        "trial has its own splits."
        + " With ddof 0 the error of 3 trials is 18 % too small, that of 5 is 11 %." * (report.ddof == 0)
        + " Marked: the best of a column, and those not significantly different (paired t-test over trials, 5 %).",
        "Avg: mean of the columns. Worst: mean over trials of the lowest column. Macro: average of the accuracies "
        "averaged over classes.",
    ]
    if "tllib" in protocols:
        sentences.insert(1, "Under protocol tllib accuracies are on all images of the left-out environment.")
    if any("imbalance" in dict(section.setting.others) for section in sections):
        sentences.append("Under --imbalance all accuracies, those of the selection too, are averaged over classes.")
    if any(section.shots for section in sections):
        sentences.append(
            "Many, Medium, Few, Zero: classes by their training images, in all training environments or, if none is "
            "left out, in their own (--shots; default: above 100, between, 1 to 20, none). Worst cell: the lowest "
            "accuracy of a class in a test environment. A difference by shot is over the pairs of runs that have such "
            "classes."
        )
    if any(section.measures for section in sections):
        sentences.append(
            "ECE, Brier, NLL: expected calibration error (15 bins), Brier score (sum over classes) and negative "
            "log-likelihood of the test data, times 100. Gap: validation less test accuracy. In these lower is better."
        )
    if any(result.comparisons for result in report.results):
        sentences.append(
            "Differences are in points, between runs with equal environment, trial and hparams_seed; rows of a search "
            "are averaged. These environments: 95 % interval with trials as the sample, each the mean over "
            "environments; p: of the same t-test. New environments: 95 % interval with environments and trials as the "
            f"sample, from {FEWEST_ENVIRONMENTS} environments on. Both hold for {FAMILIES[report.rules.family]}. "
            "Improves: probability that a run of the variant is better. 80 % power: "
            "smallest difference that is found with a probability of 80 %. Chosen: difference of the two Avg above, "
            "each with its own selected hyper-parameters. Better, worse: the interval excludes 0. Equivalent: it lies "
            "within the differences that count as none. See docs/comparisons.md."
        )
    if any(cell.error_kind == "std" and cell.error is not None for section in sections for cell in section.cells):
        sentences.append("SD is a standard deviation over runs, as published.")
    return sentences


def cell_text(cell: Cell) -> str:
    """Mean and error of a cell; missing runs in brackets."""
    if cell.mean is None:
        return f"({cell.missing or 'no run'})"
    text = f"{cell.mean:.1f}"
    if cell.error is not None:
        # A standard deviation must not look like an error of the mean.
        text += f" (SD {cell.error:.1f})" if cell.error_kind == "std" else f" ± {cell.error:.1f}"
    return f"{text} ({cell.missing})" if cell.missing else text


def best(section: Section) -> set[tuple[str, str]]:
    """The best of each column and those not significantly different, by label and column; none of a single row."""
    found = set()
    for column in section.columns:
        cells = {row.label: cell for row in section.rows if (cell := row.cells[column]).mean is not None}
        sign = -1 if column in section.measures else 1
        top = max(cells.values(), key=lambda cell: sign * (cell.mean or 0.0), default=None)
        if top and len(cells) > 1:
            found |= {(label, column) for label, cell in cells.items() if not _differs(top, cell)}
    return found


def _differs(top: Cell, cell: Cell) -> bool:
    """Whether a cell differs from the best one: by a t-test over shared trials, else by the printed number."""
    differences = [top.values[trial] - cell.values[trial] for trial in top.values if trial in cell.values]
    if len(differences) < 2:
        return round(top.mean or 0.0, 1) != round(cell.mean or 0.0, 1)
    estimate = on_these([np.array([differences])])
    return estimate is not None and estimate.p < LEVEL


def over_all(comparison: Comparison) -> list[str]:
    """The texts of a comparison under `COMPARISON_COLUMNS`."""
    one = comparison
    return [
        signed(one.overall.mean),
        interval(one.interval),
        "" if one.p is None else p_value(one.p),
        about_new(one),
        "" if one.improvement is None else f"{100 * one.improvement:.0f} %",
        "" if one.detectable is None else f"{one.detectable:.1f}",
        signed(one.as_selected),
    ]


def about_new(one: Comparison) -> str:
    """The interval for new environments, or the number of environments if it is too small."""
    n = one.overall.n_environments
    return (
        interval(one.new_interval) if one.overall.can_tell_new else f"too few ({n})" if n < FEWEST_ENVIRONMENTS else ""
    )


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return "" if value is None else f"{value:+.1f}"


def interval(limits: Interval | None) -> str:
    """The two ends of an interval."""
    return "" if limits is None else f"{limits[0]:+.1f} to {limits[1]:+.1f}"


def p_value(p: float) -> str:
    """A p-value to three places."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
