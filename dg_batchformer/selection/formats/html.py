"""The report as one HTML page that needs no network and no other file."""

import base64
import dataclasses
import gzip
import json
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from dg_batchformer.charts import charts
from dg_batchformer.selection.blocks import COMPARISON_COLUMNS, signed
from dg_batchformer.selection.formats.json import document as document_of
from dg_batchformer.selection.report import Report
from dg_batchformer.selection.shots import COLUMNS


def render(report: Report) -> str:
    """The page of a report."""
    return html(document_of(report, with_curves=True))


def html(document: Mapping[str, Any]) -> str:
    """The page of a document with learning curves; it contains the document and the charts.

    Without the packages of the extra `plots` a note replaces the charts.
    """
    try:
        drawn = [[dataclasses.asdict(chart) for chart in own] for own in charts(document)]
        vega = vega_bundle()
    except ImportError:
        drawn, vega = None, ""
    differences = [difference_table(result) for result in document["results"]]
    parts = {
        "title": escape(str(document["title"])),
        "style": source("page.css"),
        "data": packed({"document": document, "drawn": drawn, "differences": differences}),
        "vega": vega,
        "script": source("table.js") + source("page.js"),
    }
    # In one pass, so that a label that looks like a placeholder stays as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], source("page.html"))


def source(name: str) -> str:
    """A file of the page."""
    return files("dg_batchformer").joinpath("page", name).read_text(encoding="utf-8")


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script; it defines `vegaEmbed`."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def difference_table(result: Mapping[str, Any]) -> dict[str, Any]:
    """The paired differences of a result: a head and a line for each comparison, worded as in all formats."""
    environments, shots = result["environments"], [name for name in result["columns"] if name in COLUMNS]
    lines = []
    for one in result["comparisons"]:
        variant, base = one["variant"], one["base"]
        by_name = {**one["environments"], **one["shots"]}
        means = [by_name[name]["mean"] if name in by_name else None for name in (*environments, *shots)]
        cells = [f"{variant} - {base}", *map(signed, means), *one["table"]]
        lines.append({"names": [variant, base], "cells": cells, "title": one["title"], "words": one["words"]})
    return {"head": ["Variant - base", *environments, *shots, *COMPARISON_COLUMNS], "lines": lines}


def packed(value: Any) -> str:
    """Data as JSON, compressed and in base64, which cannot end a script or comment of the page."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
