"""A report as blocks, built once, which text, Markdown and LaTeX print each in their way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dg_batchformer.selection.compare import Comparison
from dg_batchformer.selection.methods import ORACLE
from dg_batchformer.selection.report import Report, Result
from dg_batchformer.selection.table import Section
from dg_batchformer.selection.wording import (
    ORACLE_FENCE,
    cell_text,
    comparison_name,
    comparison_title,
    interval,
    p_value,
    places,
    signed,
    wins,
)


@dataclass(frozen=True)
class Fence:
    """What sets all that follows apart."""

    text: str


@dataclass(frozen=True)
class Lacking:
    """A table without a number, and why it has none."""

    title: str
    text: str


class Entry(NamedTuple):
    """A number as printed; `place` is 1 for the best of its column, 2 for the second, else 0."""

    text: str
    place: int = 0


class Line(NamedTuple):
    """A row of a grid: its names and its numbers."""

    left: Sequence[str]
    entries: Sequence[Entry]


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
        Line(
            names,
            [Entry(cell_text(row.cells[name]), place.get((row.label, name), 0)) for name in section.columns],
        )
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
    return Grid(
        comparison_title(result),
        f"{result.title}; {result.caption}",
        ["Variant - base"],
        [*columns, "Mean", "95 %", "W/T/L", "p", "Chosen"],
        [Line([comparison_name(one)], _change_entries(one, columns)) for one in result.comparisons],
        [f"{comparison_name(one)}: {one.words}" for one in result.comparisons],
        is_of_changes=True,
    )


def _change_entries(comparison: Comparison, columns: Sequence[str]) -> list[Entry]:
    """Differences by column, then over all of them."""
    overall = comparison.overall
    texts = [
        *(signed(comparison.columns[column].mean) for column in columns),
        signed(overall.mean),
        interval(overall.bootstrap),
        wins(overall),
        "" if comparison.p_holm is None else p_value(comparison.p_holm),
        signed(comparison.as_selected),
    ]
    return [Entry(text) for text in texts]
