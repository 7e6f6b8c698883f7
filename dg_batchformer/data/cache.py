"""A benchmark's images, decoded once into a memory-mapped file.

The file is built whole or not at all, and anew when a name, size or time of the images changes. Images keep their size
where all share one of at most SIDE pixels a side; others are resized to SIDE x SIDE at any aspect, which is
kept beside them, as is the fingerprint of the files, taken as they are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from dg_batchformer.data.environments import fingerprint
from dg_batchformer.data.folders import CACHE, Tree
from dg_batchformer.errors import InputError, first_line

SIDE = 256
VERSION = 2
IMAGES, INDEX = "images.npy", "index.json"

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are no images, or no whole ones."""

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Cache:
    """Decoded images of all environments, one after another: uint8 (n, height, width, 3).

    `originals` has the height and width of each file's own image, and `corrupt` says, by index, what is wrong with
    those that could not be decoded and are black here. `fingerprint` is that of the files' names and bytes, corrupt or
    not, when the cache was built.
    """

    folder: Path
    images: Tensor
    originals: list[Size]
    corrupt: dict[int, str]
    fingerprint: str


def cache_folder(root: Path, cache_dir: str | None) -> Path:
    """Where the caches of images under `root` lie: in a hidden folder beside `root`, or in `cache_dir`."""
    root = root.resolve()
    if cache_dir is None:
        # Not in `root`, where DomainBed takes every folder for an environment.
        return root.parent / CACHE / root.name
    return Path(cache_dir) / f"{root.name}-{hashlib.md5(str(root).encode('utf-8')).hexdigest()[:8]}"


def stamp(tree: Tree) -> str:
    """Hash of the names, sizes and times of image files: whether a cache fits them, without reading them.

    A change that leaves all three as they were is not noticed while the cache stands.
    """
    digest = hashlib.md5(f"{VERSION} {SIDE}".encode())
    for path in tree.paths:
        stat = path.stat()
        digest.update(f"{path.relative_to(tree.root).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def place_of(name: str, tree: Tree, cache_dir: str | None) -> Path:
    """Where the cache lies, or would lie, that fits the files of a benchmark called `name`."""
    # `folder:` names have a character that not every file system takes.
    return cache_folder(tree.root, cache_dir) / f"{name.replace(':', '-')}-{stamp(tree)}"


def open_cache(name: str, tree: Tree, cache_dir: str | None, threads: int) -> Cache:
    """The cache of a benchmark called `name`, built where there is none that fits its files."""
    folder = place_of(name, tree, cache_dir)
    if not folder.is_dir():
        build(folder, tree, threads)
        for old in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
            if old != folder and "partial" not in old.name:
                shutil.rmtree(old, ignore_errors=True)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    # Copy on write: PyTorch takes no read-only memory.
    images = torch.from_numpy(np.load(folder / IMAGES, mmap_mode="c"))
    corrupt = {int(i): problem for i, problem in index["corrupt"].items()}
    originals = [(height, width) for height, width in index["originals"]]
    return Cache(folder, images, originals, corrupt, index["fingerprint"])


def build(folder: Path, tree: Tree, threads: int) -> None:
    """Decodes the images of `tree` into the cache `folder`, which appears when all are there.

    Two builders may meet.
    """
    paths = tree.paths
    partial = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{partial.parent} cannot be written to ({error.strerror}): give another --cache_dir"
        ) from error
    try:
        with ThreadPoolExecutor(threads) as pool:
            sizes = list(pool.map(size_of, paths))
            height, width = common_size([size for size in sizes if isinstance(size, tuple)])
            shape = (len(paths), height, width, 3)
            images = np.lib.format.open_memmap(partial / IMAGES, mode="w+", dtype=np.uint8, shape=shape)

            def decode(i: int) -> tuple[str | None, bytes]:
                """What is wrong with a file, and the hash of its bytes."""
                size = sizes[i]
                try:
                    content = paths[i].read_bytes()
                except OSError as error:
                    return first_line(error), b""
                problem = size if isinstance(size, str) else decode_into(images[i], BytesIO(content))
                return problem, hashlib.sha256(content).digest()

            decoding = track(pool.map(decode, range(len(paths))), f"decoding {len(paths)} images", total=len(paths))
            problems, hashes = zip(*decoding, strict=True)
            images.flush()
        names = [path.relative_to(tree.root).as_posix().encode() for path in paths]
        index = {
            "originals": [size if isinstance(size, tuple) else (height, width) for size in sizes],
            "corrupt": {i: problem for i, problem in enumerate(problems) if problem},
            "fingerprint": fingerprint(part for file in zip(names, hashes, strict=True) for part in file),
        }
        (partial / INDEX).write_text(json.dumps(index), encoding="utf-8")
        os.rename(partial, folder)
    except OSError:
        if not folder.is_dir():  # else another builder was first
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def size_of(path: Path) -> Size | str:
    """Height and width of an image, from its header, or what is wrong with the file."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UNREADABLE as error:
        return first_line(error)


def common_size(sizes: Sequence[Size]) -> Size:
    """The size at which images are kept."""
    if len(set(sizes)) == 1 and max(sizes[0]) <= SIDE:
        return sizes[0]
    return SIDE, SIDE


def decode_into(place: np.ndarray, file: BytesIO) -> str | None:
    """Decodes an image into uint8 (height, width, 3), or says what is wrong with it."""
    height, width = place.shape[:2]
    rgb = decoded(file)
    if isinstance(rgb, str):
        return rgb
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    place[:] = np.asarray(rgb)
    return None


def decoded(file: Path | BytesIO) -> Image.Image | str:
    """An image file in RGB, or what is wrong with it."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        return first_line(error)
