"""A report in each format: a module of its name in this folder, with `render(report) -> str`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dg_batchformer.selection.report import Report


def names() -> list[str]:
    """The names of the formats, the default first; found by file names, so that no format is imported."""
    return sorted((module.name for module in pkgutil.iter_modules(__path__)), key=lambda name: (name != "text", name))


def render(report: Report, name: str) -> str:
    """A report in the format of that name."""
    text: str = import_module(f"{__name__}.{name}").render(report)
    return text
