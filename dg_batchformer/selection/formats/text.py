"""The report for a terminal."""

import io

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from dg_batchformer.selection.blocks import Fence, Grid, Lacking, blocks, legend
from dg_batchformer.selection.report import Report

STYLES = {1: "bold", 2: "underline"}
WIDTH = 100


def render(report: Report, *, color: bool = False) -> str:
    """The tables under one another; with `color` the best of a column is bold and the second underlined."""
    file = io.StringIO()
    # As wide as it needs to be: a terminal wraps, a pipe must not cut.
    console = Console(file=file, width=1000, highlight=False, color_system="standard" if color else None)
    for block in blocks(report):
        match block:
            case Fence(text):
                console.print(Text(f"═══ {text} ═══\n", style="yellow"))
            case Lacking(title, text):
                console.print(Text(title, style="bold"))
                console.print(Text(f"  {text}\n"))
            case Grid():
                _print(console, block)
    for sentence in (*legend(report), *report.apart):
        console.print(Text(sentence), width=WIDTH)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _print(console: Console, grid: Grid) -> None:
    if grid.is_of_changes:
        console.print(Text(f"{grid.title}, pair by pair"))
    else:
        console.print(Text(grid.title, style="bold"))
        console.print(Text(grid.caption, style="dim"), width=WIDTH)
    columns = [Column(Text(name)) for name in grid.left] + [
        Column(Text(name), justify="right") for name in grid.columns
    ]
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for line in grid.lines:
        numbers = [Text(text, style=STYLES.get(place, "")) for text, place in line.numbers]
        table.add_row(*map(Text, line.left), *numbers)
    console.print(table)
    for note in grid.notes:
        console.print(Text(note), width=WIDTH)
    if grid.notes:
        console.print()
