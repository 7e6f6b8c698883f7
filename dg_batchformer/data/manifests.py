"""Datasets of images that a list names: their environments, files on the disk and classes."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dg_batchformer.data.folders import (
    EXTENSIONS,
    MANIFEST_PREFIX,
    Benchmark,
    Folder,
    Tree,
    images_root,
    missing_classes,
    plain_name,
)
from dg_batchformer.data.lists import COLUMNS, Row, listed, read
from dg_batchformer.errors import InputError


def described(name: str) -> tuple[tuple[str, ...], bool]:
    """The sorted environments of the dataset `manifest:FILE`, and whether it has splits."""
    rows = read(Path(name.removeprefix(MANIFEST_PREFIX)))
    return tuple(sorted({row.env for row in rows})), bool(rows[0].split)


def tree_of(benchmark: Benchmark, data_dir: str | None) -> Tree:
    """The images of a benchmark with a manifest; an InputError lists those that are missing on the disk.

    A file that exists with another extension only is used, and a note names it.
    """
    file, root = located(benchmark, data_dir)
    rows = read(file)
    by_env: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_env[plain_name(row.env)].append(row)
    expected = {plain_name(name): name for name in benchmark.folders}
    if by_env.keys() != expected.keys():
        given = ", ".join(sorted({row.env for row in rows}))
        raise InputError(f"{file} has the environments {given}: expected {', '.join(benchmark.folders)}")
    names = class_names(rows)
    indices = {label: i for i, label in enumerate(names)}
    found = Finder(root)
    folders = [
        Folder(
            name,
            [found.path(row.path) for row in by_env[plain]],
            [indices[row.label] for row in by_env[plain]],
            [row.split for row in by_env[plain]] if benchmark.tests else (),
        )
        for plain, name in expected.items()
    ]
    if found.missing:
        raise InputError(
            f"{len(found.missing)} of the {len(rows)} images in {file} are missing in {root}: {listed(found.missing)}"
        )
    classes = list(names.values())
    notes = [f"{len(found.other)} files have another extension than in {file}: {listed(found.other)}"]
    return Tree(root, folders, classes, notes * bool(found.other) + missing_classes(folders, classes))


def located(benchmark: Benchmark, data_dir: str | None) -> tuple[Path, Path]:
    """The list of a benchmark and the folder of its images.

    The list of a known benchmark is in the folder of the images or in `data_dir`. The images of `manifest:FILE` are in
    `data_dir`, by default the folder of the file; those of a folder of lists by default in this folder.
    """
    if benchmark.name.startswith(MANIFEST_PREFIX):
        file = Path(benchmark.manifest)
        root = Path(data_dir or (file if file.is_dir() else file.parent))
        if not root.is_dir():
            raise InputError(f"--data_dir {root} is not a folder: expected the one to which the paths in {file} belong")
        return file, root
    root = images_root(benchmark, data_dir)
    places = [root / benchmark.manifest, Path(data_dir or root) / benchmark.manifest]
    for file in places:
        if file.is_file():
            return file, root
    raise InputError(
        f"{benchmark.name} needs {places[0]}, the published split: expected columns {','.join(COLUMNS)},split"
    )


def class_names(rows: Sequence[Row]) -> dict[str, str]:
    """The labels in order, numbers as numbers, each with the name of its class.

    The name of a number is that of the folder of its images, if they are all in folders of one name and no two classes
    share it; otherwise a label is its own name.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        folders[row.label].add(Path(row.path).parent.name)
    are_numbers = all(label.isdecimal() for label in folders)
    labels = sorted(folders, key=int) if are_numbers else sorted(folders)
    names = [name for label in labels for name in folders[label]]
    if are_numbers and len(set(names)) == len(names) == len(labels) and all(names):
        return dict(zip(labels, names, strict=True))
    return {label: label for label in labels}


class Finder:
    """Finds listed files below `root`; collects the missing ones, and those with another extension."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.present: dict[Path, dict[str, str]] = {}
        self.missing: list[str] = []
        self.other: list[str] = []

    def path(self, listed_path: str) -> Path:
        """The path of a file, possibly with another extension."""
        path = self.root / listed_path
        names = self._names(path.parent)
        if path.name in names:
            return path
        if other := names.get(path.stem):
            self.other.append(f"{listed_path} is {other}")
            return path.with_name(other)
        self.missing.append(listed_path)
        return path

    def _names(self, folder: Path) -> dict[str, str]:
        """The image files of a folder, by name and by name without extension."""
        if folder not in self.present:
            files = sorted(os.listdir(folder)) if folder.is_dir() else []
            images = [name for name in files if name.lower().endswith(EXTENSIONS)]
            self.present[folder] = {**{Path(name).stem: name for name in images}, **{name: name for name in images}}
        return self.present[folder]
