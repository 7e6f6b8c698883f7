"""What a user should know of a benchmark's images before runs read them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dg_batchformer.data import cache as caches
from dg_batchformer.data.benchmarks import find_benchmark, images_root, load_dataset, path_free
from dg_batchformer.data.folders import Tree, scan
from dg_batchformer.data.images import corrupt_images
from dg_batchformer.errors import InputError
from dg_batchformer.machine import available_cores


class Found(NamedTuple):
    """A benchmark's images, and where their cache lies or would lie."""

    tree: Tree
    cache: Path


def find(dataset: str, data_dir: str | None, cache_dir: str | None = None) -> Found:
    """What there is of a benchmark; InputError for one without image files."""
    benchmark = find_benchmark(dataset)
    if not benchmark.root:
        raise InputError(f"{dataset} has no image files: there is nothing to check or to cache")
    tree = scan(images_root(benchmark, data_dir), benchmark.folders or None)
    return Found(tree, caches.place_of(path_free(benchmark.name), tree, cache_dir))


def check(dataset: str, data_dir: str | None) -> list[str]:
    """Decodes every image and writes nothing; InputError that names the corrupt ones."""
    tree = find(dataset, data_dir).tree
    paths = tree.paths
    with ThreadPoolExecutor(available_cores()) as pool:
        problems = [
            f"{path.relative_to(tree.root)}: {image}"
            for path, image in zip(paths, pool.map(caches.decoded, paths), strict=True)
            if isinstance(image, str)
        ]
    if problems:
        raise InputError(corrupt_images(tree.root, problems))
    return [*contents(tree), f"all {len(paths)} images can be decoded"]


def cache(dataset: str, data_dir: str | None, cache_dir: str | None, *, skip_corrupt: bool) -> list[str]:
    """Decodes the images into the cache where that is not done."""
    place = find(dataset, data_dir, cache_dir).cache
    there, started = place.is_dir(), time.monotonic()
    notes = load_dataset(dataset, data_dir, cache_dir=cache_dir, skip_corrupt=skip_corrupt).notes
    done = "was there already" if there else f"built in {time.monotonic() - started:.1f} s"
    return [*notes, f"cache {place}: {megabytes(place)}, {done}"]


def info(dataset: str, data_dir: str | None, cache_dir: str | None) -> list[str]:
    """Environments, classes and the state of the cache."""
    tree, place = find(dataset, data_dir, cache_dir)
    state = megabytes(place) if place.is_dir() else "not there, or of files that have changed since"
    return [*contents(tree), f"cache {place}: {state}"]


def contents(tree: Tree) -> list[str]:
    """Image counts by environment, and the classes."""
    counts = [f"{folder.name}: {len(folder.paths)} images" for folder in tree.folders]
    return [*counts, f"{len(tree.classes)} classes: {', '.join(tree.classes)}"]


def megabytes(place: Path) -> str:
    """The size of a cache."""
    return f"{sum(path.stat().st_size for path in place.iterdir()) / 1e6:.0f} MB"
