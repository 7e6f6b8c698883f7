"""The loaders of benchmarks: image files, decoded once into a cache; and RotatedDigits and noise without files."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from dg_batchformer.data import manifests
from dg_batchformer.data.augment import SIZE
from dg_batchformer.data.cache import decoded, image_threads, open_cache, place_of
from dg_batchformer.data.encoded import QUALITY, EncodedImages
from dg_batchformer.data.environments import (
    Dataset,
    Environment,
    ImageEnvironment,
    Split,
    TensorEnvironment,
    fingerprint,
)
from dg_batchformer.data.folders import Benchmark, Folder, Source, Tree, images_root, path_free, scan
from dg_batchformer.data.lists import SPLITS
from dg_batchformer.errors import InputError


def load_images(benchmark: Benchmark, source: Source) -> Dataset:
    """The images of a benchmark's environments."""
    tree = tree_of(benchmark, source)
    cache = open_cache(path_free(benchmark.name), tree, source)
    paths = tree.paths
    skipped = [f"{paths[i].relative_to(tree.root)}: {problem}" for i, problem in sorted(cache.corrupt.items())]
    if skipped and not source.skip_corrupt:
        raise InputError(corrupt_images(tree.root, skipped))
    pool = image_threads(source.threads)
    environments: list[Environment] = []
    splits: list[Split] = []
    files: list[list[str]] = []
    start = 0
    for name, folder in zip(benchmark.environments, tree.folders, strict=True):
        end = start + len(folder.paths)
        sound = [i - start for i in range(start, end) if i not in cache.corrupt]
        images, originals, labels = cache.images[start:end], cache.originals[start:end], torch.tensor(folder.labels)
        if benchmark.original:
            originals = torch.tensor([benchmark.original]).expand(len(originals), 2)
        if len(sound) < end - start:
            images, originals, labels = images[sound], originals[sound], labels[sound]
        environments.append(ImageEnvironment(name, images, originals, labels, pool))
        files.append([folder.paths[i].relative_to(tree.root).as_posix() for i in sound])
        if folder.splits:
            splits.append(split_of([folder.splits[i] for i in sound]))
        start = end
    notes = list(tree.notes)
    if isinstance(cache.images, EncodedImages):
        notes.append(f"images are kept as JPEG files of quality {QUALITY}")
    notes.append(compared(benchmark, tuple(len(environment.labels) for environment in environments)))
    if skipped:
        notes.append(f"WARNING: skipped {len(skipped)} corrupt image(s): {'; '.join(skipped)}")
    shape, classes = (3, SIZE, SIZE), tuple(tree.classes)
    return Dataset(
        benchmark.name,
        environments,
        shape,
        classes,
        splits or None,
        files,
        notes,
        skipped,
        cache.folder,
        fingerprint=with_manifest(cache.fingerprint, tree) if benchmark.manifest else cache.fingerprint,
    )


def split_of(names: Sequence[str]) -> Split:
    """The split of an environment from the names of its images' splits."""
    return Split(*(torch.tensor([i for i, own in enumerate(names) if own == name]) for name in SPLITS))


def with_manifest(content: str, tree: Tree) -> str:
    """The fingerprint of images with their labels and splits: paths do not tell them."""
    rows = ((folder.name, folder.labels, list(folder.splits)) for folder in tree.folders)
    return fingerprint([content.encode(), *(repr(row).encode() for row in rows)])


def compared(benchmark: Benchmark, counts: tuple[int, ...]) -> str:
    """The number of images, compared with the published counts."""

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
    """Decodes every image and writes nothing; an InputError lists the corrupt ones."""
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
    """Decodes the images into the cache if it is missing."""
    place = place_of(path_free(benchmark.name), tree_of(benchmark, source), source)
    there, started = place.is_dir(), time.monotonic()
    notes = load_images(benchmark, source).notes
    done = "already there" if there else f"built in {time.monotonic() - started:.1f} s"
    return [*notes, f"cache {place}: {megabytes(place)}, {done}"]


def info(benchmark: Benchmark, source: Source) -> list[str]:
    """Environments, classes and the state of the cache."""
    tree = tree_of(benchmark, source)
    place = place_of(path_free(benchmark.name), tree, source)
    state = megabytes(place) if place.is_dir() else "missing or outdated"
    return [*contents(tree), f"cache {place}: {state}"]


def tree_of(benchmark: Benchmark, source: Source) -> Tree:
    """The image files of a benchmark; InputError if it has none."""
    if benchmark.manifest:
        return manifests.tree_of(benchmark, source.data_dir)
    if benchmark.tree:
        return benchmark.tree(benchmark, source)
    if not benchmark.root:
        raise InputError(f"{benchmark.name} has no image files: there is nothing to check or cache")
    root = images_root(benchmark, source.data_dir)
    return scan(root, benchmark.folders, partial_classes=source.partial_classes)


def contents(tree: Tree) -> list[str]:
    """Image counts by environment and split, the classes, and notes."""
    counts = [f"{folder.name}: {len(folder.paths)} images{in_splits(folder)}" for folder in tree.folders]
    return [*counts, f"{len(tree.classes)} classes: {', '.join(tree.classes)}", *tree.notes]


def in_splits(folder: Folder) -> str:
    """The image counts of an environment by split, in brackets, if the splits are given."""
    counts = Counter(folder.splits)
    return f" ({', '.join(f'{name} {counts[name]}' for name in SPLITS)})" if counts else ""


def megabytes(place: Path) -> str:
    """The size of a cache."""
    return f"{sum(path.stat().st_size for path in place.iterdir()) / 1e6:.0f} MB"


DIGIT_SIDE = 16


def load_digits(benchmark: Benchmark) -> Dataset:
    """RotatedDigits: scikit-learn's 1,797 handwritten digits, divided among environments named by rotation angle.

    Input: float (1, 16, 16) in [0, 1], the 8x8 originals enlarged and rotated counter-clockwise. Label: 0 to 9.
    Environments: image k belongs to environment k modulo their number, as in RotatedMNIST: no image is in two.
    Source: the test set of the UCI "Optical Recognition of Handwritten Digits" data, CC BY 4.0.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(digits.target).long()
    angles = [int(name) for name in benchmark.environments]
    environments: list[Environment] = []
    for i, angle in enumerate(angles):
        own = slice(i, None, len(angles))
        large = F.resize(images[own], [DIGIT_SIDE, DIGIT_SIDE], InterpolationMode.BILINEAR, antialias=True)
        rotated = F.rotate(large, angle, InterpolationMode.BILINEAR)
        environments.append(TensorEnvironment(str(angle), rotated, labels[own]))
    # From the originals and the angles: the last bits of interpolated images depend on the processor.
    originals = (values.astype("uint8").tobytes() for values in (digits.images, digits.target))
    content = fingerprint([*originals, repr(angles).encode()])
    classes = tuple(map(str, range(10)))
    return Dataset(benchmark.name, environments, (1, DIGIT_SIDE, DIGIT_SIDE), classes, fingerprint=content)


def load_noise(benchmark: Benchmark) -> Dataset:
    """DomainBed's debugging data: 16 images of noise for each environment, two classes."""
    size = int(benchmark.name.removeprefix("Debug"))
    shape = (3, size, size)
    generator = torch.Generator().manual_seed(0)
    environments: list[Environment] = []
    for name in benchmark.environments:
        images = torch.randn(16, *shape, generator=generator)
        environments.append(TensorEnvironment(name, images, torch.randint(0, 2, (16,), generator=generator)))
    # From the labels, which are drawn last: the last bits of the noise depend on the processor.
    content = fingerprint([repr(shape).encode(), *(one.labels.numpy().tobytes() for one in environments)])
    return Dataset(benchmark.name, environments, shape, ("0", "1"), fingerprint=content)
