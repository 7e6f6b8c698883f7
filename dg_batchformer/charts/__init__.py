"""The charts of a report, each defined once in Vega-Lite: the page shows them, and `files` makes files of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dg_batchformer.registry import split_name

INK, FAINT, BLUE = "#222222", "#767676", "#0072b2"
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


@dataclass(frozen=True)
class Chart:
    """A chart of a result: a Vega-Lite specification without its data, and these, the rows."""

    kind: str
    title: str
    caption: str
    spec: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]  # each with the `names` of the algorithms that it is about
    labels: Sequence[str] = ()  # of the algorithms that set the chart apart from others of its kind


class Look(NamedTuple):
    """How an algorithm is drawn: those that differ by BatchFormer alone share place and colour; filled with it."""

    place: int
    colour: str
    filled: bool


def charts(document: Mapping[str, Any]) -> list[list[Chart]]:
    """The charts of each result of a document (that of the format json, with curves); none of one without numbers.

    Raises ImportError where the packages of the extra `plots` are missing.
    """
    from dg_batchformer.charts.curves import curves
    from dg_batchformer.charts.points import points

    looks = looks_of(document)
    return [[] if one["lacking"] else [*points(one, looks), *curves(one, looks)] for one in document["results"]]


def looks_of(document: Mapping[str, Any]) -> dict[str, Look]:
    """How the algorithms of a document are drawn, the same in all its results."""
    families: dict[tuple[str, ...], int] = {}
    looks = {}
    for algorithm in (row["algorithm"] for result in document["results"] for row in result["rows"]):
        objective, modifiers = split_name(algorithm)
        family = (objective, *(name for name in modifiers if name != "BatchFormer"))
        place = families.setdefault(family, len(families))
        looks[algorithm] = Look(place, HUES[place % len(HUES)], "BatchFormer" in modifiers)
    return looks


def counts(difference: Mapping[str, Any]) -> str:
    """Wins, ties and losses."""
    return "/".join(str(difference[name]) for name in ("wins", "ties", "losses"))
