"""What all charts share: colours, type, panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt

from dg_batchformer.registry import split_name

INK, FAINT = "#222222", "#767676"
BLUE = "#0072b2"
HUES = (BLUE, "#d55e00", "#009e73", "#cc79a7", "#b87d00", "#3a9bd1", "#8c6d31")
"""Okabe and Ito's palette for colour-blind readers; its yellows are darker here, since they are too light on paper."""

WORDS = {"labelColor": INK, "labelLimit": 0}
CONFIG: dict[str, Any] = {
    # vl-convert brings this font, so that files are alike on all machines; a browser may have its twin. One weight,
    # since a PDF has several fonts in any order.
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "aria": False,  # one description for each chart, not for each mark
    "view": {"stroke": None},
    "axis": {**WORDS, "titleFontWeight": "normal", "titleLimit": 0},
    "axisX": {"labelOverlap": True, "labelSeparation": 6},
    "header": {**WORDS, "labelFontSize": 12, "title": None},
    "legend": {**WORDS, "orient": "top", "title": None, "symbolType": "stroke", "columns": 2},
    "title": {"anchor": "start", "frame": "bounds", "fontWeight": "normal", "subtitleColor": FAINT},
    "point": {"opacity": 1},
}


class Look(NamedTuple):
    """How an algorithm is drawn: those that differ by BatchFormer alone share place and colour; filled with it."""

    place: int
    colour: str
    fill: str


Looks = Mapping[str, Look]


def looks(document: Mapping[str, Any]) -> Looks:
    """How the algorithms of a document are drawn, the same in all its results."""
    families: dict[tuple[str, ...], int] = {}
    found = {}
    for algorithm in (row["algorithm"] for result in document["results"] for row in result["rows"]):
        objective, modifiers = split_name(algorithm)
        family = (objective, *(name for name in modifiers if name != "BatchFormer"))
        place = families.setdefault(family, len(families))
        colour = HUES[place % len(HUES)]
        found[algorithm] = Look(place, colour, colour if "BatchFormer" in modifiers else "white")
    return found


def panels(layers: Sequence[Any], width: int, height: Any, **facet: Any) -> Any:
    """A chart of some layers with a panel for each value of a field, whose data are called `rows`."""
    layered = alt.layer(*layers).properties(width=width, height=height)
    return layered.facet(data=alt.NamedData("rows"), **facet).configure(**CONFIG)
