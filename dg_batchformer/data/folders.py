"""The description of a benchmark, and its images on the disk, `root/<environment>/<class>/`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dg_batchformer.errors import InputError

if TYPE_CHECKING:
    from dg_batchformer.data.environments import Dataset

FOLDER_PREFIX = "folder:"
"""The dataset `folder:PATH` has the images in `PATH/<environment>/<class>/`."""

MANIFEST_PREFIX = "manifest:"
"""The dataset `manifest:FILE` has the images that a CSV file lists."""

CACHE = ".dg-batchformer-cache"
"""The folder of decoded images, beside the folder of a benchmark."""

CACHES = DECODED, ENCODED = "decoded", "encoded"
"""How a cache keeps its images: their pixels, or JPEG files."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The extensions of torchvision's ImageFolder, which DomainBed uses."""


class Source(NamedTuple):
    """The folders of the image files and of their cache, what is allowed in them, and the threads that read.

    `image_cache` is how the images are kept (None: by their number).
    """

    data_dir: str | None = None
    cache_dir: str | None = None
    skip_corrupt: bool = False
    partial_classes: bool = False
    image_cache: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class Benchmark:
    """The description of a benchmark.

    `environments` are DomainBed's names, `folders` the folders below `root`, in the same order; `published` are the
    image counts of the known versions, by environment. `small` benchmarks have DomainBed's hyper-parameters for small
    images. `manifest` is the CSV file that lists the images, if there is one; with `tests` it has splits too, so that
    all environments can be trained and tested. `batch_size` replaces DomainBed's; `shots` are the numbers of training
    images that divide many- and few-shot classes. `original` is the height and width on which random crops are defined
    (None: those of each file; (0, 0): no crops). `load` makes the dataset, `tree` finds the images that are not in
    folders of environments and classes.
    """

    name: str
    environments: tuple[str, ...]
    steps: int = 5001
    checkpoint_freq: int = 300
    root: str = ""
    folders: tuple[str, ...] = ()
    published: tuple[tuple[int, ...], ...] = ()
    small: bool = False
    manifest: str = ""
    tests: bool = False
    batch_size: int | None = None
    shots: tuple[int, int] = (100, 20)
    original: tuple[int, int] | None = None
    load: Callable[[Benchmark, Source], Dataset] = field(kw_only=True)
    tree: Callable[[Benchmark, Source], Tree] | None = None


class Folder(NamedTuple):
    """One environment on the disk: its image files, with the class index and the given split of each, if any.

    Without a manifest the files are in ImageFolder's order.
    """

    name: str
    paths: list[Path]
    labels: list[int]
    splits: Sequence[str] = ()


@dataclass(frozen=True)
class Tree:
    """All environments below `root`, their classes, and notes for the user."""

    root: Path
    folders: list[Folder]
    classes: list[str]
    notes: list[str]

    @property
    def paths(self) -> list[Path]:
        """All image files, sorted by environment."""
        return [path for folder in self.folders for path in folder.paths]


def path_free(name: str) -> str:
    """The name of a dataset without the path of `folder:PATH` or `manifest:FILE`: moved data is the same data."""
    for prefix in (FOLDER_PREFIX, MANIFEST_PREFIX):
        if name.startswith(prefix):
            return prefix + Path(name.removeprefix(prefix)).resolve().name
    return name


def data_folder(benchmark: Benchmark, data_dir: str | None, which: str) -> Path:
    """The given data folder; InputError if there is none, which says what it is expected to be."""
    if data_dir is None:
        raise InputError(f"dataset {benchmark.name} needs --data_dir, the folder {which}")
    return Path(data_dir)


def images_root(benchmark: Benchmark, data_dir: str | None) -> Path:
    """The folder of the environments: DomainBed's folder below `data_dir`, or `data_dir` itself."""
    if benchmark.name.startswith(FOLDER_PREFIX):
        return Path(benchmark.root)
    folder = data_folder(benchmark, data_dir, f"that contains {benchmark.root}/")
    below = folder / benchmark.root
    if below.is_dir():
        return below
    if (folder / benchmark.folders[0]).is_dir():
        return folder
    raise InputError(
        f"{below} is not a folder: expected the environments {', '.join(benchmark.folders)} of {benchmark.name} there"
    )


def subfolders(path: Path) -> tuple[list[Path], list[str]]:
    """The folders in `path`, sorted, and the names of those that never have data."""
    found = sorted((entry for entry in path.iterdir() if entry.is_dir()), key=lambda entry: entry.name)
    stray = [entry for entry in found if entry.name.startswith(".") or entry.name == "__MACOSX"]
    return [entry for entry in found if entry not in stray], [entry.name for entry in stray if entry.name != CACHE]


def scan(root: Path, expected: Sequence[str] = (), *, partial_classes: bool = False) -> Tree:
    """Finds the images under `root`; `expected` names its environments in order (none: every folder, sorted).

    An InputError lists all errors: missing environments, empty classes, and different class lists. With
    `partial_classes` these may differ; the classes are those of all environments, and a note names missing ones.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: expected {root}/<environment>/<class>/<image>")
    present, ignored = subfolders(root)
    paths, problems = present, []
    if expected:
        by_name = {plain_name(path.name): path for path in present}
        paths = [by_name[plain_name(name)] for name in expected if plain_name(name) in by_name]
        ignored += [path.name for path in present if path not in paths]
        if missing := [name for name in expected if plain_name(name) not in by_name]:
            problems.append(
                f"{root} has no environment{'s' * (len(missing) > 1)} {', '.join(missing)}: "
                f"expected {', '.join(expected)}, found {', '.join(path.name for path in present) or 'no folder'}"
            )
    elif len(paths) < 2:
        problems.append(
            f"{root} has {len(paths)} environment(s): expected at least 2 folders, one for each environment"
        )
    classes = {path: [entry.name for entry in subfolders(path)[0]] for path in paths}
    problems += _class_problems(classes, may_differ=partial_classes)
    known = sorted({name for names in classes.values() for name in names})
    folders = []
    for path, names in classes.items():
        images = {name: _images(path / name) for name in names}
        problems += [
            f"{path / name} is an empty class: expected images ({', '.join(EXTENSIONS)})"
            for name, files in images.items()
            if not files
        ]
        labels = [known.index(name) for name, files in images.items() for _ in files]
        folders.append(Folder(path.name, [file for files in images.values() for file in files], labels))
    if problems:
        raise InputError("\n".join(problems))
    notes = [f"ignored folders: {', '.join(ignored)}"] if ignored else []
    return Tree(root, folders, known, notes + missing_classes(folders, known))


def missing_classes(folders: Sequence[Folder], classes: Sequence[str]) -> list[str]:
    """A note about environments without images of some classes, if there are any."""
    missing = {one.name: [name for i, name in enumerate(classes) if i not in set(one.labels)] for one in folders}
    listed = "; ".join(f"{name} {', '.join(names)}" for name, names in missing.items() if names)
    return [f"classes without images: {listed}"] if listed else []


def plain_name(name: str) -> str:
    """A folder name without case, spaces, `_` and `-`: "Real_World" and "Real World" are the same environment."""
    return "".join(character for character in name.lower() if character not in " _-")


def _class_problems(classes: dict[Path, list[str]], *, may_differ: bool) -> list[str]:
    """The errors of environments without classes, or whose classes differ from those of most environments."""
    problems = [
        f"{path} has no class folders: add {path}/<class>/<image>, or remove it"
        for path, names in classes.items()
        if not names
    ]
    lists = [names for names in classes.values() if names]
    usual = max(lists, key=lists.count, default=[])
    for path, names in classes.items():
        if names and names != usual and not may_differ:
            missing, surplus = sorted(set(usual) - set(names)), sorted(set(names) - set(usual))
            differences = [f"missing {', '.join(missing)}"] * bool(missing)
            differences += [f"extra {', '.join(surplus)}"] * bool(surplus)
            problems.append(
                f"{path} has different classes than the other environments: {'; '.join(differences)} "
                "(--partial_classes allows it)"
            )
    return problems


def _images(folder: Path) -> list[Path]:
    """Image files below a class folder, in the order of ImageFolder: folder by folder, names sorted."""
    return [
        Path(parent, name)
        for parent, _, names in sorted(os.walk(folder, followlinks=True))
        for name in sorted(names)
        if name.lower().endswith(EXTENSIONS)
    ]
