"""A benchmark of image files, which are decoded once into a cache; and what there is to know before runs read them."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from dg_batchformer.data.augment import SIZE
from dg_batchformer.data.cache import decoded, open_cache, place_of
from dg_batchformer.data.environments import Dataset, Environment, ImageEnvironment
from dg_batchformer.data.folders import Benchmark, Source, Tree, images_root, path_free, scan
from dg_batchformer.errors import InputError


def load_images(benchmark: Benchmark, source: Source) -> Dataset:
    """The images of a benchmark's environments."""
    tree = tree_of(benchmark, source)
    cache = open_cache(path_free(benchmark.name), tree, source.cache_dir, source.threads)
    paths = tree.paths
    skipped = [f"{paths[i].relative_to(tree.root)}: {problem}" for i, problem in sorted(cache.corrupt.items())]
    if skipped and not source.skip_corrupt:
        raise InputError(corrupt_images(tree.root, skipped))
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
    notes.append(compared(benchmark, tuple(len(environment.labels) for environment in environments)))
    if skipped:
        notes.append(f"WARNING: skipped {len(skipped)} corrupt image(s): {'; '.join(skipped)}")
    shape, n_classes = (3, SIZE, SIZE), len(tree.classes)
    return Dataset(
        benchmark.name, environments, shape, n_classes, notes, skipped, cache.folder, fingerprint=cache.fingerprint
    )


def compared(benchmark: Benchmark, counts: tuple[int, ...]) -> str:
    """How many images were found, beside the published counts."""

    def listed(counts: tuple[int, ...]) -> str:
        return ", ".join(f"{name} {count}" for name, count in zip(benchmark.environments, counts, strict=True))

    found, published = f"{sum(counts)} images ({listed(counts)})", benchmark.published
    totals = " or ".join(f"{sum(version):,}" for version in published)
    if not published:
        return found
    if counts in published:
        return f"{found}: a published version of {benchmark.name}" + f" (of {totals})" * (len(published) > 1)
    versions = " or ".join(map(listed, published))
    return f"WARNING: {found}: not the published {benchmark.name} of {totals} ({versions})"


def corrupt_images(root: Path, named: list[str]) -> str:
    """The message about corrupt images."""
    more = f"\nand {len(named) - 20} more" if len(named) > 20 else ""
    listed = "\n".join(named[:20])
    return f"{len(named)} corrupt image(s) in {root}: replace or remove them, or --skip_corrupt\n{listed}{more}"


def check(benchmark: Benchmark, source: Source) -> list[str]:
    """Decodes every image and writes nothing; InputError that names the corrupt ones."""
    tree = tree_of(benchmark, source)
    paths = tree.paths
    with ThreadPoolExecutor(source.threads) as pool:
        problems = [
            f"{path.relative_to(tree.root)}: {image}"
            for path, image in zip(paths, pool.map(decoded, paths), strict=True)
            if isinstance(image, str)
        ]
    if problems:
        raise InputError(corrupt_images(tree.root, problems))
    return [*contents(tree), f"all {len(paths)} images can be decoded"]


def fill_cache(benchmark: Benchmark, source: Source) -> list[str]:
    """Decodes the images into the cache where that is not done."""
    place = place_of(path_free(benchmark.name), tree_of(benchmark, source), source.cache_dir)
    there, started = place.is_dir(), time.monotonic()
    notes = load_images(benchmark, source).notes
    done = "was there already" if there else f"built in {time.monotonic() - started:.1f} s"
    return [*notes, f"cache {place}: {megabytes(place)}, {done}"]


def info(benchmark: Benchmark, source: Source) -> list[str]:
    """Environments, classes and the state of the cache."""
    tree = tree_of(benchmark, source)
    place = place_of(path_free(benchmark.name), tree, source.cache_dir)
    state = megabytes(place) if place.is_dir() else "not there, or of files that have changed since"
    return [*contents(tree), f"cache {place}: {state}"]


def tree_of(benchmark: Benchmark, source: Source) -> Tree:
    """The image files of a benchmark; InputError for one that has none."""
    if not benchmark.root:
        raise InputError(f"{benchmark.name} has no image files: there is nothing to check or to cache")
    return scan(images_root(benchmark, source.data_dir), benchmark.folders)


def contents(tree: Tree) -> list[str]:
    """Image counts by environment, and the classes."""
    counts = [f"{folder.name}: {len(folder.paths)} images" for folder in tree.folders]
    return [*counts, f"{len(tree.classes)} classes: {', '.join(tree.classes)}"]


def megabytes(place: Path) -> str:
    """The size of a cache."""
    return f"{sum(path.stat().st_size for path in place.iterdir()) / 1e6:.0f} MB"
