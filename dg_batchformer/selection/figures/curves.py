"""Learning curves of the chosen runs: an algorithm and its BatchFormer twin, a panel for each environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from dg_batchformer.selection.compare import base_of
from dg_batchformer.selection.curves import Curve, curve
from dg_batchformer.selection.figures.sheet import HUES, INK, MARGIN, SMALL, WIDTH, Sheet, headings, wrapped
from dg_batchformer.selection.report import Result
from dg_batchformer.selection.table import Row

PANELS = 2
"""Side by side."""
LEFT, GAP, HEIGHT, BELOW = 0.36, 0.12, 0.95, 0.18
"""Inches left of the panels, between them, of their height, and under them for ticks."""
AXIS_NAME = 0.12
LANE = 0.05
"""Height of a SWAD window's lane, as a share of the panel's."""

COLORS = "#8A8A8A", HUES[0]
"""Of the algorithm and its twin; they differ in lightness too."""
DASHES = (0, (3, 1.5))
CHOSEN: tuple[dict[str, Any], ...] = (
    {"marker": "o", "markersize": 3.5, "markerfacecolor": "white", "markeredgecolor": "#5A5A5A"},
    {"marker": "o", "markersize": 3.5, "markerfacecolor": HUES[0], "markeredgecolor": HUES[0]},
)

Curves = dict[str, list[Curve]]
"""The chosen runs' curves, by environment."""


def figures(result: Result) -> Iterator[tuple[list[str], Figure]]:
    """For each algorithm of a result a figure of its learning curves and its twin's, with their labels."""
    if result.section.is_over_datasets:
        return
    for rows in twins(result.section.rows):
        curves = {row.label: curves_of(row, result.section.own_columns) for row in rows}
        if any(len(one.steps) > 1 for own in curves.values() for several in own.values() for one in several):
            yield list(curves), figure(result, curves)


def twins(rows: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Each algorithm with BatchFormer together with the same one without it; those that have no such twin alone."""
    run = tuple(row for row in rows if row.candidates)
    pairs = [(base, row) for row in run if (base := base_of(row, "BatchFormer", run))]
    paired = {row.label for pair in pairs for row in pair}
    groups = [*pairs, *((row,) for row in run if row.label not in paired)]
    return sorted(groups, key=lambda group: run.index(group[0]))


def curves_of(row: Row, environments: Sequence[str]) -> Curves:
    """The curves of a row's chosen runs."""
    return {name: [curve(choice) for choice in row.cells[name].choices] for name in environments}


def figure(result: Result, curves: dict[str, Curves]) -> Figure:
    """A panel for each environment, with the curves of one or two algorithms by label."""
    names = [name for name in result.section.own_columns if any(own[name] for own in curves.values())]
    across = min(PANELS, len(names))
    width = (WIDTH - LEFT - MARGIN - 0.08 - GAP * (across - 1)) / across
    titles, above = headings(names, width)
    step = above + HEIGHT + BELOW
    every = [one for own in curves.values() for several in own.values() for one in several]
    height = step * -(-len(names) // across) + AXIS_NAME
    sheet = Sheet(result, " and ".join(curves), height, key(list(curves), every), notes(every))
    first: Axes | None = None
    for i, name in enumerate(names):
        line, place = divmod(i, across)
        axes = sheet.axes(LEFT + place * (width + GAP), line * step + above, width, HEIGHT, sharex=first, sharey=first)
        first = first or axes
        axes.set_title(titles[i])
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.tick_params(labelleft=place == 0)
        if place == 0:
            axes.set_ylabel("accuracy (%)")
        if i + across >= len(names):
            axes.set_xlabel("step")
        for number, own in enumerate(curves.values()):
            panel(axes, own[name], number)
    return sheet.figure


def panel(axes: Axes, curves: Sequence[Curve], number: int) -> None:
    """The curves of an algorithm's trials, the mean of them, what was chosen, and what SWAD averaged."""
    if not curves:
        return
    color = COLORS[number]
    for one in curves:
        if len(curves) > 1:
            axes.plot(one.steps, one.test, color=color, linewidth=0.5, alpha=0.4)
        if one.swad_window:
            low = number * LANE
            axes.axvspan(*one.swad_window, low, low + LANE, color=color, alpha=0.4, linewidth=0)
    steps, validation, test = mean(curves)
    axes.plot(steps, validation, color=color, linewidth=1, linestyle=DASHES)
    axes.plot(steps, test, color=color, linewidth=1.1)
    chosen = [(one.chosen, 100 * one.choice.accuracy) for one in curves]
    axes.plot(*zip(*chosen, strict=True), **CHOSEN[number], linestyle="none", markeredgewidth=0.6, zorder=3)


def mean(curves: Sequence[Curve]) -> tuple[list[int], list[float], list[float]]:
    """The steps that all curves have, and there the means of their validation and test accuracies."""
    steps = sorted(set.intersection(*(set(one.steps) for one in curves)))
    at = [[one.steps.index(step) for step in steps] for one in curves]
    validation = [[one.validation[i] for i in own] for one, own in zip(curves, at, strict=True)]
    test = [[one.test[i] for i in own] for one, own in zip(curves, at, strict=True)]
    return steps, np.mean(validation, axis=0).tolist(), np.mean(test, axis=0).tolist()


def key(labels: Sequence[str], curves: Sequence[Curve]) -> dict[str, Artist]:
    """What the lines and marks mean, as far as some curves have them."""
    marks: dict[str, Artist] = {}
    for number, label in enumerate(labels):
        line = Line2D([], [], color=COLORS[number], linewidth=1.1, **CHOSEN[number])
        marks["\n".join(wrapped(label, SMALL, WIDTH - 0.6))] = line
    marks["test"] = Line2D([], [], color=INK, linewidth=1.1)
    marks["validation"] = Line2D([], [], color=INK, linewidth=1, linestyle=DASHES)
    if any(one.swad_window for one in curves):
        marks["averaged by SWAD"] = Patch(color=INK, alpha=0.4, linewidth=0)
    return marks


def notes(curves: Sequence[Curve]) -> str:
    """What the lines are."""
    trials = {one.choice.run.key.trial_seed for one in curves}
    lines = f"Lines: means over {len(trials)} trials; thin: each trial's test." if len(trials) > 1 else "1 trial."
    return (
        "Runs with the chosen hyper-parameters, one environment left out in each panel. Test: accuracy there; "
        f"validation: on the others' out-splits. {lines} Dots: the chosen models."
    )
