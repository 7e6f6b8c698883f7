"""The charts of a report, each defined once in Vega-Lite: the page shows them, and files are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chart:
    """A chart of a result.

    `spec` is a Vega-Lite specification without its data, the `rows`: each has the `names` of the algorithms that it is
    about. `labels` are of the algorithms that set the chart apart from others of its kind.
    """

    kind: str
    title: str
    caption: str
    spec: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    labels: Sequence[str] = ()


def charts(document: Mapping[str, Any]) -> list[list[Chart]]:
    """The charts of each result of a document (that of the format json, with curves); none of one without numbers.

    Raises ImportError where the packages of the extra `plots` are missing.
    """
    from dg_batchformer.charts.curves import curves
    from dg_batchformer.charts.points import accuracies, forest
    from dg_batchformer.charts.style import looks

    drawn = looks(document)
    return [
        [] if one["lacking"] else [accuracies(one, drawn), *forest(one), *curves(one, drawn)]
        for one in document["results"]
    ]


def counts(difference: Mapping[str, Any]) -> str:
    """Wins, ties and losses."""
    return "/".join(str(difference[name]) for name in ("wins", "ties", "losses"))
