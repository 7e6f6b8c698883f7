"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable

from dg_batchformer.page.html import html
from dg_batchformer.selection.formats.differences import csv_differences
from dg_batchformer.selection.formats.document import document, json_report
from dg_batchformer.selection.formats.flat import csv_table
from dg_batchformer.selection.formats.latex import latex
from dg_batchformer.selection.formats.markdown import markdown
from dg_batchformer.selection.formats.text import text
from dg_batchformer.selection.report import Report

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "markdown": markdown,
    "latex": latex,
    "csv": csv_table,
    "differences": csv_differences,
    "json": json_report,
    "html": lambda report: html(document(report, with_curves=True)),
}
