"""The report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from dg_batchformer.charts import charts, counts
from dg_batchformer.selection.blocks import COMPARISON_COLUMNS, interval, p_value, signed
from dg_batchformer.selection.formats.json import document as document_of
from dg_batchformer.selection.report import Report

SCRIPTS = ("dom.js", "table.js", "details.js", "charts.js", "page.js")
"""In the order in which the page runs them."""


def render(report: Report) -> str:
    """The page of a report."""
    return html(document_of(report, with_curves=True))


def html(document: Mapping[str, Any]) -> str:
    """The page of a document with learning curves.

    It lies in it, beside its charts and what shows both. Without the packages of the extra `plots` the page has no
    charts, and says so.
    """
    folder = files("dg_batchformer.page")
    try:
        drawn = [[dataclasses.asdict(chart) for chart in own] for own in charts(document)]
        vega = vega_bundle()
    except ImportError:
        drawn, vega = None, ""
    data = {
        "document": document,
        "drawn": drawn,
        "differences": [difference_table(result) for result in document["results"]],
    }
    parts = {
        "title": escape(str(document["title"])),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "data": packed(data),
        "vega": vega,
        "script": "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    template = (folder / "page.html").read_text(encoding="utf-8")
    # In one pass, so that no label which looks like a placeholder is taken for one.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script; it defines `vegaEmbed`."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def difference_table(result: Mapping[str, Any]) -> dict[str, Any]:
    """The paired differences of a result in the words of all formats: a head, and a line for each comparison."""
    environments = result["environments"]
    head = ["Variant - base", *environments, *COMPARISON_COLUMNS]
    return {"head": head, "lines": [difference_line(one, environments) for one in result["comparisons"]]}


def difference_line(comparison: Mapping[str, Any], environments: Sequence[str]) -> dict[str, Any]:
    variant, base, overall = (comparison[name] for name in ("variant", "base", "overall"))
    means = [comparison["environments"][name]["mean"] for name in environments]
    p = "" if comparison["p_holm"] is None else p_value(comparison["p_holm"])
    cells = [f"{variant} - {base}", *map(signed, [*means, overall["mean"]]), interval(overall["bootstrap"])]
    cells += [counts(overall), p, signed(comparison["as_selected"])]
    return {"names": [variant, base], "cells": cells, "words": comparison["words"]}


def packed(value: Any) -> str:
    """Data as JSON, compressed to a tenth, in letters that no script or comment of a page ends with."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
