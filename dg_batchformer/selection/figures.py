"""Static figures of a report, as PNG and PDF."""

from __future__ import annotations

from pathlib import Path

from dg_batchformer.selection.report import Report


def draw(report: Report, folder: Path) -> list[Path]:
    """Draws the figures of a report into a folder; returns the files."""
    raise NotImplementedError
