"""Paired differences as a forest plot: for each comparison the mean difference, its intervals and its units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dg_batchformer.selection.blocks import p_value
from dg_batchformer.selection.compare import HYPER_PARAMETER, SIGNIFICANT, Comparison
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
    widest,
    wrapped,
)
from dg_batchformer.selection.report import Result

HEAD = "W/T/L", "p"
ABOVE, BELOW, GAP = 0.02, 0.32, 0.08
"""Inches over and under the axes, and between columns."""

BLUE = HUES[0]
BOOTSTRAP: dict[str, Any] = {"color": BLUE, "linewidth": 2.4, "solid_capstyle": "butt"}
T: dict[str, Any] = {"color": BLUE, "linewidth": 0.8}
MEAN: dict[str, Any] = {"color": BLUE, "marker": "D", "markersize": 3.5, "markeredgewidth": 0.8, "linestyle": "none"}
HOLLOW = {**MEAN, "markerfacecolor": "white"}
UNIT: dict[str, Any] = {"color": FAINT, "marker": "o", "markersize": 2, "markeredgewidth": 0, "linestyle": "none"}


def figure(result: Result) -> Figure:
    """The forest plot of a result's comparisons, grouped by modifier."""
    lines = listed(result.comparisons)
    labels = [one if isinstance(one, str) else "\n".join(wrapped(name(one), SMALL, LABELS)) for one in lines]
    counts, chances = [HEAD[0], *map(count_text, result.comparisons)], [HEAD[1], *map(chance_text, result.comparisons)]
    left = MARGIN + widest(labels, SMALL) + 0.05
    after_counts = WIDTH - MARGIN - widest(chances, SMALL) - GAP
    right = after_counts - widest(counts, SMALL) - GAP
    row = 0.05 + LINE * SMALL * max(label.count("\n") + 1 for label in labels)
    height = row * len(lines)

    what = "what was changed"
    sheet = Sheet(result, what, ABOVE + height + BELOW, key(result.comparisons), notes(result.comparisons))
    axes = sheet.axes(left, ABOVE, right - left, height)
    reach = limit(result.comparisons)
    axes.set(xlim=(-reach, reach), ylim=(len(lines) - 0.5, -0.5), xlabel="points, with the change less without it")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=INK, linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(lines)), labels)
    axes.tick_params(axis="y", length=0)
    ends = [(place - left) / (right - left) for place in (after_counts, WIDTH - MARGIN)]
    for y, one in enumerate(lines):
        if isinstance(one, str):
            axes.get_yticklabels()[y].set_fontweight("bold")
        else:
            interval(axes, one, y, reach)
        texts = HEAD if y == 0 else ("", "") if isinstance(one, str) else (count_text(one), chance_text(one))
        for end, text in zip(ends, texts, strict=True):
            axes.text(end, y, text, transform=axes.get_yaxis_transform(), ha="right", va="center")
    return sheet.figure


def listed(comparisons: Sequence[Comparison]) -> list[str | Comparison]:
    """The lines of the plot: each modifier's name, or what stands for it, then its comparisons."""
    lines: list[str | Comparison] = []
    for modifier in dict.fromkeys(comparison.modifier for comparison in comparisons):
        lines += [modifier, *(one for one in comparisons if one.modifier == modifier)]
    return lines


def name(comparison: Comparison) -> str:
    """What is compared; the modifier above says what with. A row that was given more may have several bases."""
    if comparison.modifier == HYPER_PARAMETER:
        return f"{comparison.change}, {comparison.base}"
    return comparison.variant


def count_text(comparison: Comparison) -> str:
    one = comparison.overall
    return f"{one.wins}/{one.ties}/{one.losses}"


def chance_text(comparison: Comparison) -> str:
    return "" if comparison.p_holm is None else p_value(comparison.p_holm)


def limit(comparisons: Sequence[Comparison]) -> float:
    """How far the axis goes to both sides: beyond all units, which few of Student's intervals exceed."""
    units = [abs(value) for comparison in comparisons for value in comparison.overall.units.values()]
    return 1.1 * max(units) or 1.0


def interval(axes: Axes, comparison: Comparison, y: float, reach: float) -> None:
    """A comparison's mean, intervals and units; an arrow where an interval goes on beyond the axis."""
    overall = comparison.overall
    if overall.mean is None:
        axes.text(0, y, " no pair of runs", color=FAINT, va="center")
        return
    if overall.t:
        axes.plot(overall.t, [y, y], **T)
        for end, marker in zip(overall.t, "<>", strict=True):
            if abs(end) > reach:
                axes.plot(math.copysign(reach, end), y, marker, color=BLUE, markersize=2.5, clip_on=False)
    if overall.bootstrap:
        axes.plot(overall.bootstrap, [y, y], **BOOTSTRAP)
    axes.plot(list(overall.units.values()), [y + 0.3] * overall.n, **UNIT)
    axes.plot(overall.mean, y, **(MEAN if is_significant(comparison) else HOLLOW))


def is_significant(comparison: Comparison) -> bool:
    return comparison.p_holm is not None and comparison.p_holm < SIGNIFICANT


def key(comparisons: Sequence[Comparison]) -> dict[str, Artist]:
    """What the marks mean, as far as a result has them."""
    marks: dict[str, Artist] = {}
    if any(is_significant(one) for one in comparisons):
        marks[f"mean, p < {SIGNIFICANT}"] = Line2D([], [], **MEAN)
    if not all(is_significant(one) for one in comparisons):
        marks["mean"] = Line2D([], [], **HOLLOW)
    marks["trial of an environment"] = Line2D([], [], **UNIT)
    if any(one.overall.t for one in comparisons):
        marks["95 % bootstrap"] = Line2D([], [], **BOOTSTRAP)
        marks["95 % Student's t"] = Line2D([], [], **T)
    return marks


def notes(comparisons: Sequence[Comparison]) -> str:
    """What is compared, and how."""
    n = comparisons[0].n_comparisons
    test = f"paired t-test, corrected (Holm) for {n} comparisons" if n > 1 else "paired t-test"
    return (
        "Runs of equal environment, trial and hparams_seed are compared. W/T/L: wins, ties and losses of the change; "
        f"p: {test}."
    )
