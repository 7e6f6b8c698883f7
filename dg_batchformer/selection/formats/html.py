"""The selection table as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from dg_batchformer.selection.formats.json import document
from dg_batchformer.selection.report import Report

SCRIPTS = ("dom.js", "table.js", "details.js", "charts.js", "forest.js", "curves.js", "page.js")
"""In the order in which the page runs them."""


def render(report: Report) -> str:
    """The page with learning curves."""
    return html(document(report, with_curves=True))


def html(shown: Mapping[str, Any]) -> str:
    """The page of a document (that of the format json), which lies in it as JSON beside what shows it."""
    folder = files("dg_batchformer.selection.formats") / "page"
    parts = {
        "title": escape(str(shown.get("title", ""))),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "document": embedded_json(shown),
        "script": "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    template = (folder / "page.html").read_text(encoding="utf-8")
    # In one pass, so that no label which looks like a placeholder is taken for one.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def embedded_json(document: Mapping[str, Any]) -> str:
    """JSON that may stand in a <script>: without `<`, no label ends it or opens a comment."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c")
