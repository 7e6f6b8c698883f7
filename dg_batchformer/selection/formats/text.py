"""The report for a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dg_batchformer.selection.formats.wording import (
    COMPARISON_COLUMNS,
    ORACLE_FENCE,
    comparison_cells,
    comparison_name,
    comparison_sentences,
    comparison_title,
    edge_sentences,
    leading_columns,
    legend,
    printed_rows,
)
from dg_batchformer.selection.methods import ORACLE
from dg_batchformer.selection.pairs import Comparison
from dg_batchformer.selection.report import Report, Result
from dg_batchformer.selection.table import Section

STYLES = {1: "bold", 2: "underline"}
WIDTH = 100


def text(report: Report, *, color: bool = False) -> str:
    """The tables under one another; with `color` the best of a column is bold and the second underlined."""
    file = io.StringIO()
    # As wide as it needs to be: a terminal wraps, a pipe must not cut.
    console = Console(file=file, width=1000, highlight=False, color_system="standard" if color else None)
    fenced = False
    for result in report.results:
        if result.section.selection == ORACLE and not fenced:
            fenced = True
            console.print(Text(f"═══ {ORACLE_FENCE} ═══\n", style="yellow"))
        _print(console, result)
    for sentence in (*legend(report), *report.apart):
        console.print(Text(sentence), width=WIDTH)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _print(console: Console, result: Result) -> None:
    console.print(Text(result.title, style="bold"))
    if result.lacking:
        console.print(Text(f"  {result.lacking}\n"))
        return
    console.print(Text(result.caption, style="dim"), width=WIDTH)
    console.print(table(result.section))
    for sentence in edge_sentences(result):
        console.print(Text(sentence), width=WIDTH)
    if result.edges:
        console.print()
    if result.comparisons:
        console.print(Text(f"{comparison_title(result)}, pair by pair"))
        console.print(comparison_table(result.comparisons, result.section.own_columns))
        for sentence in comparison_sentences(result):
            console.print(Text(sentence), width=WIDTH)
        console.print()


def table(section: Section) -> Table:
    """The accuracies of a section."""
    shown = _table(leading_columns(section), section.columns)
    for first, cells in printed_rows(section):
        shown.add_row(*map(Text, first), *(Text(text, style=STYLES.get(place, "")) for text, place in cells))
    return shown


def comparison_table(comparisons: Iterable[Comparison], columns: Iterable[str]) -> Table:
    """The comparisons of a section."""
    columns = list(columns)
    shown = _table(["Variant - base"], [*columns, *COMPARISON_COLUMNS])
    for comparison in comparisons:
        shown.add_row(Text(comparison_name(comparison)), *map(Text, comparison_cells(comparison, columns)))
    return shown


def _table(left: Iterable[str], right: Iterable[str]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD)
    for name in left:
        shown.add_column(Text(name))
    for name in right:
        shown.add_column(Text(name), justify="right")
    return shown
