"""A report as blocks, built once, which text, Markdown and LaTeX print each in their way; how its values are worded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.compare import HYPER_PARAMETER, Comparison
from dg_batchformer.selection.methods import ORACLE
from dg_batchformer.selection.report import Report, Result, all_cells
from dg_batchformer.selection.statistics import FEWEST_TO_RESAMPLE, Interval
from dg_batchformer.selection.table import Section

ORACLE_FENCE = "Chosen on test data, for comparison only: do not report these as results"

COMPARISON_COLUMNS = ("Mean", "95 %", "W/T/L", "p", "Chosen")
"""Right of the columns of the table whose rows are compared."""


@dataclass(frozen=True)
class Fence:
    """What sets all that follows apart."""

    text: str


@dataclass(frozen=True)
class Lacking:
    """A table without a number, and why it has none."""

    title: str
    text: str


class Printed(NamedTuple):
    """A number as printed; `place` is 1 for the best of its column, 2 for the second, else 0."""

    text: str
    place: int = 0


class Line(NamedTuple):
    """A row of a grid: its names and its numbers."""

    left: Sequence[str]
    numbers: Sequence[Printed]


@dataclass(frozen=True)
class Grid:
    """Accuracies, or changes of them: names in the `left` columns, numbers in the others, and notes below."""

    title: str
    caption: str
    left: Sequence[str]
    columns: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str]
    is_of_changes: bool = False


Block = Fence | Lacking | Grid


def blocks(report: Report) -> Iterator[Block]:
    """The tables of a report; what was chosen on test data comes after a fence."""
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
    section, place = result.section, places(result.section)
    left = _left_columns(section)
    lines = [
        Line(names, [Printed(cell_text(row.cells[name]), place.get((row.label, name), 0)) for name in section.columns])
        for row, names in zip(section.rows, zip(*left.values(), strict=True), strict=True)
    ]
    notes = [f"{label}: {edge}" for label, edges in result.edges.items() for edge in edges]
    return Grid(result.title, result.caption, list(left), section.columns, lines, notes)


def _left_columns(section: Section) -> dict[str, list[str]]:
    """The columns left of the numbers: rank and source where rows have them, and the algorithms."""
    columns = {"Rank": [str(row.rank or "") for row in section.rows]} if any(row.rank for row in section.rows) else {}
    columns["Algorithm"] = [row.label for row in section.rows]
    if any(row.source for row in section.rows):
        columns["Source"] = [row.source or "runs" for row in section.rows]
    return columns


def _changes(result: Result) -> Grid:
    columns = result.section.own_columns
    kinds = {"given hyper-parameter" if one.modifier == HYPER_PARAMETER else "modifier" for one in result.comparisons}
    return Grid(
        f"What each {' and '.join(sorted(kinds, reverse=True))} changed",
        f"{result.title}; {result.caption}",
        ["Variant - base"],
        [*columns, *COMPARISON_COLUMNS],
        [Line([one.name], [Printed(text) for text in _change_texts(one, columns)]) for one in result.comparisons],
        [f"{one.name}: {one.words}" for one in result.comparisons],
        is_of_changes=True,
    )


def _change_texts(comparison: Comparison, columns: Sequence[str]) -> list[str]:
    """Differences by column, then over all of them."""
    overall = comparison.overall
    return [
        *(signed(comparison.columns[column].mean) for column in columns),
        signed(overall.mean),
        interval(overall.bootstrap),
        f"{overall.wins}/{overall.ties}/{overall.losses}",
        "" if comparison.p_holm is None else p_value(comparison.p_holm),
        signed(comparison.as_selected),
    ]


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


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return "" if value is None else f"{value:+.1f}"


def interval(limits: Interval | None) -> str:
    """An interval's two ends."""
    return "too few" if limits is None else f"{limits[0]:+.1f} to {limits[1]:+.1f}"


def p_value(p: float) -> str:
    """A p-value to three places."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
