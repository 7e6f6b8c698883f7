"""The report for a terminal."""

import dataclasses
import io

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from dg_batchformer.selection.blocks import Fence, Grid, Lacking, blocks, legend
from dg_batchformer.selection.methods import TRAINING_DOMAIN
from dg_batchformer.selection.report import Report

WIDTH = 100
MORE = "more: --verbose (other selection methods, differences, explanations), --format html (a page)"


def render(report: Report, *, color: bool = False, verbose: bool = False) -> str:
    """The table to report and a line for each comparison; with `verbose` all tables, differences and explanations.

    With `color` the best of a column is bold, with those not significantly different.
    """
    file = io.StringIO()
    # No limit of the width: a terminal wraps, a pipe must not cut.
    console = Console(file=file, width=1000, highlight=False, color_system="standard" if color else None)
    to_report = [one for one in report.results if one.section.selection == TRAINING_DOMAIN]
    shown = report if verbose else dataclasses.replace(report, results=to_report or report.results)
    for block in blocks(shown):
        match block:
            case Fence(text):
                console.print(Text(f"═══ {text} ═══\n", style="yellow"))
            case Lacking(title, text):
                console.print(Text(title, style="bold"))
                console.print(Text(f"  {text}\n"))
            case Grid():
                _print(console, block, verbose=verbose)
    explained = verbose or not report.results
    for sentence in (*legend(shown), *shown.apart) if explained else (*shown.apart, MORE):
        console.print(Text(sentence), width=WIDTH)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _print(console: Console, grid: Grid, *, verbose: bool) -> None:
    if not grid.is_of_changes:
        console.print(Text(grid.title, style="bold"))
        console.print(Text(grid.caption, style="dim"), width=WIDTH)
    elif verbose:
        console.print(Text(f"{grid.title}, pair by pair"))
    if verbose or not grid.is_of_changes:
        console.print(_table(grid))
    for note in grid.notes:
        console.print(Text(note), width=WIDTH)
    if grid.notes:
        console.print()


def _table(grid: Grid) -> Table:
    names = [Column(Text(name)) for name in grid.left]
    table = Table(*names, *(Column(Text(name), justify="right") for name in grid.columns), box=box.SIMPLE_HEAD)
    for line in grid.lines:
        numbers = [Text(text, style="bold" if best else "") for text, best in line.numbers]
        table.add_row(*map(Text, line.left), *numbers)
    return table
