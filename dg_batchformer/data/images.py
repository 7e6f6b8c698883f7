"""Loads a benchmark of image files, which are decoded once into a cache."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from dg_batchformer.data.augment import SIZE
from dg_batchformer.data.benchmark import Benchmark, Source, path_free
from dg_batchformer.data.cache import open_cache
from dg_batchformer.data.environments import Dataset, Environment, ImageEnvironment
from dg_batchformer.data.folders import scan
from dg_batchformer.errors import InputError


def load_images(benchmark: Benchmark, root: Path, source: Source) -> Dataset:
    """The images of a benchmark's environments, which are folders of `root`."""
    tree = scan(root, benchmark.folders or None)
    cache = open_cache(path_free(benchmark.name), tree, source.cache_dir, source.threads)
    paths = tree.paths
    skipped = [f"{paths[i].relative_to(root)}: {problem}" for i, problem in sorted(cache.corrupt.items())]
    if skipped and not source.skip_corrupt:
        raise InputError(corrupt_images(root, skipped))
    pool = ThreadPoolExecutor(source.threads, initializer=torch.set_num_threads, initargs=(1,))
    environments: list[Environment] = []
    start = 0
    for name, folder in zip(benchmark.environments, tree.folders, strict=True):
        end = start + len(folder.paths)
        sound = [i - start for i in range(start, end) if i not in cache.corrupt]
        images, originals, labels = cache.images[start:end], cache.originals[start:end], torch.tensor(folder.labels)
        if len(sound) < end - start:
            images, originals, labels = images[sound], [originals[i] for i in sound], labels[sound]
        environments.append(ImageEnvironment(name, images, originals, labels, pool))
        start = end
    notes = [f"ignored folders: {', '.join(tree.ignored)}"] if tree.ignored else []
    notes.append(compared(benchmark, [len(environment.labels) for environment in environments]))
    if skipped:
        notes.append(f"WARNING: skipped {len(skipped)} corrupt image(s): {'; '.join(skipped)}")
    return Dataset(
        benchmark.name,
        environments,
        (3, SIZE, SIZE),
        len(tree.classes),
        notes,
        skipped,
        cache.folder,
        fingerprint=cache.fingerprint,
    )


def corrupt_images(root: Path, named: list[str]) -> str:
    """The message about corrupt images."""
    more = f"\nand {len(named) - 20} more" if len(named) > 20 else ""
    listed = "\n".join(named[:20])
    return f"{len(named)} corrupt image(s) in {root}: replace or remove them, or --skip_corrupt\n{listed}{more}"


def compared(benchmark: Benchmark, counts: list[int]) -> str:
    """How many images were found, beside the published counts."""

    def listed(counts: Sequence[int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in zip(benchmark.environments, counts, strict=True))

    found, published = f"{sum(counts)} images ({listed(counts)})", benchmark.published
    totals = " or ".join(f"{sum(version):,}" for version in published)
    if not published:
        return found
    if tuple(counts) in published:
        return f"{found}: a published version of {benchmark.name}" + f" (of {totals})" * (len(published) > 1)
    versions = " or ".join(map(listed, published))
    return f"WARNING: {found}: not the published {benchmark.name} of {totals} ({versions})"
