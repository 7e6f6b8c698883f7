"""Finds the images of `root/<environment>/<class>/<image>`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dg_batchformer.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Those of torchvision's ImageFolder, which DomainBed reads with."""


CACHE = ".dg-batchformer-cache"
"""Where decoded images lie, beside the folder of a benchmark."""


@dataclass(frozen=True)
class Folder:
    """One environment on the disk: image files in ImageFolder's order and the class index of each."""

    name: str
    paths: list[Path]
    labels: list[int]


@dataclass(frozen=True)
class Tree:
    """All environments below `root`, the classes they share, and what was passed over."""

    root: Path
    folders: list[Folder]
    classes: list[str]
    ignored: list[str]

    @property
    def paths(self) -> list[Path]:
        """All image files, environment after environment."""
        return [path for folder in self.folders for path in folder.paths]


def plain_name(name: str) -> str:
    """A folder's name without case, spaces, `_` and `-`: "Real_World" and "Real World" are one environment."""
    return "".join(character for character in name.lower() if character not in " _-")


def subfolders(path: Path) -> tuple[list[Path], list[str]]:
    """Folders in `path`, sorted, and the names of those that never hold data."""
    found = sorted((entry for entry in path.iterdir() if entry.is_dir()), key=lambda entry: entry.name)
    stray = [entry for entry in found if entry.name.startswith(".") or entry.name == "__MACOSX"]
    return [entry for entry in found if entry not in stray], [entry.name for entry in stray if entry.name != CACHE]


def scan(root: Path, expected: Sequence[str] | None = None) -> Tree:
    """Finds the images under `root`; `expected` names its environments in order (None: every folder, sorted).

    Raises InputError that lists all that is wrong: missing environments, class lists that differ, empty classes.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: expected {root}/<environment>/<class>/<image>")
    present, ignored = subfolders(root)
    if expected is None:
        chosen: list[Path | None] = list(present)
    else:
        by_name = {plain_name(path.name): path for path in present}
        chosen = [by_name.get(plain_name(name)) for name in expected]
        ignored += [path.name for path in present if path not in chosen]
    problems = []
    if expected is not None and None in chosen:
        missing = [name for name, path in zip(expected, chosen, strict=True) if path is None]
        problems.append(
            f"{root} lacks the environment{'s' * (len(missing) > 1)} {', '.join(missing)}: "
            f"expected {', '.join(expected)}, found {', '.join(path.name for path in present) or 'no folder'}"
        )
    paths = [path for path in chosen if path is not None]
    if expected is None and len(paths) < 2:
        problems.append(f"{root} has {len(paths)} environment(s): expected at least 2 folders, one an environment")
    classes = {path.name: [entry.name for entry in subfolders(path)[0]] for path in paths}
    problems += _class_problems(root, classes)
    folders = []
    for path in paths:
        files = [_images(path / name) for name in classes[path.name]]
        problems += [
            f"{path / name} is an empty class: expected images ({', '.join(EXTENSIONS)})"
            for name, images in zip(classes[path.name], files, strict=True)
            if not images
        ]
        labels = [label for label, images in enumerate(files) for _ in images]
        folders.append(Folder(path.name, [image for images in files for image in images], labels))
    if problems:
        raise InputError("\n".join(problems))
    return Tree(root, folders, next(iter(classes.values())), ignored)


def _class_problems(root: Path, classes: dict[str, list[str]]) -> list[str]:
    """Environments whose classes are not those that most environments have."""
    problems = [
        f"{root / name} has no class folders: add {root / name}/<class>/<image>, or remove it"
        for name, names in classes.items()
        if not names
    ]
    lists = [names for names in classes.values() if names]
    if not lists:
        return problems
    usual = max(lists, key=lists.count)
    for name, names in classes.items():
        if not names or names == usual:
            continue
        missing, surplus = sorted(set(usual) - set(names)), sorted(set(names) - set(usual))
        differences = [f"{', '.join(missing)} missing"] * bool(missing)
        differences += [f"{', '.join(surplus)} not elsewhere"] * bool(surplus)
        problems.append(f"{root / name} has other classes than other environments: {'; '.join(differences)}")
    return problems


def _images(folder: Path) -> list[Path]:
    """Image files below a class folder, in the order of ImageFolder: folder by folder, names sorted."""
    return [
        Path(parent, name)
        for parent, _, names in sorted(os.walk(folder, followlinks=True))
        for name in sorted(names)
        if name.lower().endswith(EXTENSIONS)
    ]
