"""A report in each format: a module of its name, here or beside the page, with `render(report) -> str`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from dg_batchformer import page

if TYPE_CHECKING:
    from dg_batchformer.selection.report import Report


def names() -> list[str]:
    """The names of the formats, the default one first."""
    return sorted(_packages(), key=lambda name: (name != "text", name))


def render(report: Report, name: str) -> str:
    """A report in the format of that name."""
    text: str = import_module(f"{_packages()[name]}.{name}").render(report)
    return text


def _packages() -> dict[str, str]:
    """The package of each format by name, as far as the files say: nothing is imported."""
    places = {__name__: __path__, page.__name__: page.__path__}
    return {module.name: package for package, path in places.items() for module in pkgutil.iter_modules(path)}
