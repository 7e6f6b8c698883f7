"""Plug-ins: algorithms and datasets of installed packages, by entry point.

The entry points of the group `dg_batchformer.algorithms` are algorithm classes, those of `dg_batchformer.datasets` are
`Benchmark`s; each is known by its name to every command. Names of this package keep their meaning.
"""

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dg_batchformer.errors import InputError

ALGORITHMS = "dg_batchformer.algorithms"
DATASETS = "dg_batchformer.datasets"


@functools.cache
def plugins(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a group by name."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return found


@functools.cache
def plugin(group: str, name: str, expected: type) -> Any:
    """The object of the entry point `name`, or None; InputError if it cannot be loaded or is of another type."""
    points = plugins(group).get(name, [])
    if not points:
        return None
    sources = [f"{point.value} of {point.dist.name if point.dist else 'an unknown package'}" for point in points]
    if len(points) > 1:
        raise InputError(f"{name!r} is a plug-in of several packages: {', '.join(sources)}; uninstall all but one")
    try:
        loaded = points[0].load()
    except Exception as error:  # a package may raise anything
        raise InputError(
            f"plug-in {name!r} ({sources[0]}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(loaded, expected):
        raise InputError(f"plug-in {name!r} ({sources[0]}) is a {type(loaded).__name__}: expected {expected.__name__}")
    return loaded
