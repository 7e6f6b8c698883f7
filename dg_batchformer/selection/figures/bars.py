"""Accuracies as bars: a panel for each environment and one for their average, in it a bar for each algorithm."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dg_batchformer.registry import split_name
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.figures.sheet import (
    FAINT,
    HUES,
    INK,
    LABELS,
    LINE,
    MARGIN,
    SMALL,
    WIDTH,
    Sheet,
    headings,
    tint,
    widest,
    wrapped,
)
from dg_batchformer.selection.report import Result
from dg_batchformer.selection.table import AVERAGE, Row

PANELS = 3
"""Side by side, at most."""
GAP, BELOW = 0.2, 0.2
"""Inches between panels, and under them for ticks."""
BETWEEN = 0.5
"""Between the groups of rows, in lines."""
HATCH = "//////"


def figure(result: Result) -> Figure:
    """The bars of a result; algorithms that differ by BatchFormer alone stand together and share a hue."""
    section = result.section
    groups = grouped(section.rows)
    rows = [row for own in groups.values() for row in own]
    columns = [*section.own_columns, AVERAGE]
    labels = ["\n".join(wrapped(row.label, SMALL, LABELS)) for row in rows]
    places, depth = positions([len(own) for own in groups.values()], [1 + label.count("\n") for label in labels])
    start, end = limits([row.cells[column] for row in rows for column in columns])

    across = min(PANELS, len(columns))
    left = MARGIN + widest(labels, SMALL) + 0.05
    width = (WIDTH - left - MARGIN - 0.08 - GAP * (across - 1)) / across
    height = LINE * SMALL * depth
    titles, above = headings(columns, width + GAP / 2)
    step = above + height + BELOW
    sheet = Sheet(result, "accuracy", step * -(-len(columns) // across), key(rows), notes(result, rows, columns, start))
    for i, column in enumerate(columns):
        line, place = divmod(i, across)
        axes = sheet.axes(left + place * (width + GAP), line * step + above, width, height)
        axes.set_title(titles[i], weight="bold" if column == AVERAGE else "normal")
        axes.set(xlim=(start, end), ylim=(depth, 0), xticks=[start, (start + end) / 2, end])
        axes.set_yticks(places, labels if place == 0 else [""] * len(rows))
        axes.tick_params(axis="y", length=0)
        for row, y in zip(rows, places, strict=True):
            bar(axes, row, row.cells[column], y, hue(row, list(groups)))
    return sheet.figure


def base_name(algorithm: str) -> str:
    """An algorithm's name without BatchFormer, spelled in one way."""
    objective, modifiers = split_name(algorithm)
    return "_".join([objective, *(name for name in modifiers if name != "BatchFormer")])


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by their names without BatchFormer, in the order of the table."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(base_name(row.algorithm), []).append(row)
    return groups


def positions(groups: Sequence[int], sizes: Sequence[int]) -> tuple[list[float], float]:
    """The middles of rows from the top downwards and where the last one ends, in lines.

    `groups` are the numbers of rows in each group, `sizes` the numbers of lines in each row.
    """
    first = set(itertools.accumulate(groups))
    places, top = [], 0.0
    for i, size in enumerate(sizes):
        top += BETWEEN if i in first else 0
        places.append(top + size / 2)
        top += size
    return places, top


def limits(cells: Sequence[Cell]) -> tuple[float, float]:
    """Where the axis starts and ends: a multiple of ten at least ten points below all marks, and one above them."""
    low = min(cell.mean - (cell.error or 0) for cell in cells if cell.mean is not None)
    high = max(cell.mean + (cell.error or 0) for cell in cells if cell.mean is not None)
    return max(0.0, 10 * (low // 10) - 10), max(10 * -(-high // 10), 10.0)


def hue(row: Row, groups: Sequence[str]) -> str:
    """The colour of a row's group."""
    return HUES[groups.index(base_name(row.algorithm)) % len(HUES)]


def is_variant(row: Row) -> bool:
    """Whether a row's algorithm has BatchFormer."""
    return "BatchFormer" in split_name(row.algorithm)[1]


def bar(axes: Axes, row: Row, cell: Cell, y: float, color: str) -> None:
    """A cell's bar and whisker: solid with BatchFormer, pale without it, hatched where published."""
    if cell.mean is None:
        axes.text(0.04, y, "no number", transform=axes.get_yaxis_transform(), color=FAINT, va="center")
        return
    axes.barh(y, cell.mean, height=0.8, linewidth=0.6, **look(color, solid=is_variant(row), hatched=bool(row.source)))
    tip = cell.mean
    if cell.error is not None:
        cap = 1.5 if cell.error_kind == "stderr" else 0
        axes.errorbar(cell.mean, y, xerr=cell.error, color=INK, elinewidth=0.7, capsize=cap, capthick=0.7)
        tip += cell.error
    if cell.missing:
        axes.annotate("*", (tip, y), (1, -1.5), textcoords="offset points", va="center", annotation_clip=False)


def look(color: str, *, solid: bool, hatched: bool) -> dict[str, Any]:
    """The fill, outline and hatch of a bar; in a hatch the outline's colour is that of the lines."""
    fill = color if solid else tint(color, 0.25)
    if not hatched:
        return {"facecolor": fill, "edgecolor": color}
    return {"facecolor": fill, "edgecolor": "white" if solid else color, "hatch": HATCH}


def key(rows: Sequence[Row]) -> dict[str, Artist]:
    """What the fills mean, as far as a result has them."""
    marks = {
        "without BatchFormer": (False, False),
        "with BatchFormer": (True, False),
        "without, published": (False, True),
        "with, published": (True, True),
    }
    found = {(is_variant(row), bool(row.source)) for row in rows}
    return {
        name: Patch(linewidth=0.6, **look(FAINT, solid=solid, hatched=hatched))
        for name, (solid, hatched) in marks.items()
        if (solid, hatched) in found
    }


def notes(result: Result, rows: Sequence[Row], columns: Sequence[str], start: float) -> str:
    """What the bars and whiskers are, and where the axis starts."""
    what = "averages over environments" if result.section.is_over_datasets else "on the environment left out"
    parts = [f"Accuracy in percent, {what}; the axis starts at {start:.0f}{', not at 0' * (start > 0)}."]
    cells = [row.cells[column] for row in rows for column in columns]
    kinds = {cell.error_kind for cell in cells if cell.error is not None}
    counts = sorted({cell.n for cell in cells if cell.n and cell.error is not None})
    if "stderr" in kinds:
        over = f" over {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} trials" if counts else ""
        parts.append(f"Whiskers: standard error{over}.")
    elif any(cell.n for cell in cells):
        parts.append("1 trial, so no standard error.")
    if "std" in kinds:
        parts.append("Whiskers without caps: standard deviation, as published.")
    if any(cell.mean is not None and cell.missing for cell in cells):
        parts.append("*: some of the runs are missing.")
    return " ".join(parts)
