"""The charts of a report, each defined once in Vega-Lite: the page shows them, and files are made of them.

All take the document that `--format json` gives, with learning curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dg_batchformer.charts import accuracies, curves, forest
from dg_batchformer.charts.style import Chart, families


def charts(document: Mapping[str, Any]) -> list[list[Chart]]:
    """The charts of each result of a document; none of a result without numbers.

    Raises ImportError where the packages of the extra `plots` are missing.
    """
    colours = families(document)
    return [
        [accuracies.chart(one, colours), *forest.charts(one), *curves.charts(one)] if not one["lacking"] else []
        for one in document["results"]
    ]
