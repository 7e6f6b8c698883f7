"""What all charts share: colours, labels, their look, and what a chart is."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dg_batchformer.registry import split_name

INK, FAINT, ALARM = "#222222", "#767676", "#b3261e"
BLUE = "#0072b2"
HUES = (BLUE, "#d55e00", "#009e73", "#cc79a7", "#b87d00", "#3a9bd1", "#8c6d31")
"""Okabe and Ito's palette for colour-blind readers; its yellows are darker here, since they are too light on paper."""
LINE = 11
"""Pixels between the lines of a label."""

WORDS = {"labelColor": INK, "labelLimit": 0}
CONFIG: dict[str, Any] = {
    # vl-convert brings this font, so that files are alike on all machines; a browser may have its twin. One weight,
    # since a PDF has several fonts in any order.
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "background": "white",
    "aria": False,  # one description for each chart, not for each mark
    "view": {"stroke": None},
    "axis": {**WORDS, "labelOverlap": True, "labelSeparation": 6, "titleFontWeight": "normal", "titleLimit": 0},
    "axisY": {"labelLineHeight": LINE, "labelOverlap": False},
    "header": {**WORDS, "labelFontSize": 12, "title": None},
    "legend": {**WORDS, "orient": "top", "title": None, "symbolType": "stroke", "columns": 2},
    "title": {"anchor": "start", "frame": "bounds", "fontWeight": "normal", "subtitleColor": FAINT},
    "point": {"opacity": 1},
}


@dataclass(frozen=True)
class Chart:
    """A chart of a result.

    `spec` is a Vega-Lite specification without data; the charts of a kind share it as far as their rows are of one
    height. `rows` are the data, each with the `names` of the algorithms that it is about. `labels` are of the
    algorithms that set the chart apart from others of its kind.
    """

    kind: str
    title: str
    caption: str
    spec: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    labels: Sequence[str] = ()


def is_variant(algorithm: str) -> bool:
    """Whether an algorithm has BatchFormer: its marks are filled, those of the others hollow."""
    return "BatchFormer" in split_name(algorithm)[1]


def family(algorithm: str) -> str:
    """An algorithm's name without BatchFormer, spelled in one way."""
    objective, modifiers = split_name(algorithm)
    return "_".join([objective, *(name for name in modifiers if name != "BatchFormer")])


def families(document: Mapping[str, Any]) -> dict[str, str]:
    """The colour of each family: the algorithms that differ by BatchFormer alone share it, in all results."""
    rows = (row for result in document["results"] for row in result["rows"])
    return dict(zip(dict.fromkeys(family(row["algorithm"]) for row in rows), itertools.cycle(HUES), strict=False))


def label(text: str) -> str:
    """A text in lines that are short enough to stand beside a panel."""
    return "\n".join(textwrap.wrap(text, 32, break_on_hyphens=False))


def step(rows: Sequence[Mapping[str, Any]], least: int = 0) -> int:
    """Pixels that each of some rows needs for the longest of their labels."""
    return max(least, LINE * max(row["label"].count("\n") + 1 for row in rows) + 8)


def labelled() -> Any:
    """Rows by their `label`, whose lines stand around the middle of the row."""
    import altair as alt

    lines = "split(datum.label, '\\n')"
    lift = [{"test": f"length({lines}) == {n}", "value": -LINE * (n - 1) / 2} for n in range(2, 16)]
    axis = alt.Axis(labelExpr=lines, labelOffset={"condition": lift, "value": 0}, ticks=False, domain=False)
    return alt.Y("label:N", sort=None, title=None, axis=axis)


def panels(layers: Sequence[Any], width: int, height: Any, **facet: Any) -> Any:
    """A chart of some layers with a panel for each value of a field, whose data are called `rows`."""
    import altair as alt

    layered = alt.layer(*layers).properties(width=width, height=height)
    return layered.facet(data=alt.NamedData("rows"), **facet).configure(**CONFIG)
