"""The images of a benchmark, decoded once into a memory-mapped file.

The file is built completely or not at all, and again when a name, size or time of the images changes. Images keep their
size if all share one of at most SIDE pixels; otherwise they are resized to SIDE x SIDE. The original sizes and the
fingerprint of the files are kept beside them.
"""

import hashlib
import json
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

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
"""Pillow's errors for files that are not images, or incomplete ones."""

Size = tuple[int, int]
"""Height and width."""


class Cache(NamedTuple):
    """Decoded images of all environments, one after another: uint8 (n, height, width, 3).

    `originals` has the height and width of each image in its file. `corrupt` has, by index, the errors of images that
    could not be decoded; these are black. `fingerprint` is a hash of the names and bytes of all files, corrupt ones
    included, when the cache was built.
    """

    folder: Path
    images: Tensor
    originals: list[Size]
    corrupt: dict[int, str]
    fingerprint: str


def place_of(name: str, tree: Tree, cache_dir: str | None) -> Path:
    """The folder of the cache for the files of the benchmark `name`; it may not exist yet.

    It is below a hidden folder beside the images, or below `cache_dir`. The last part is a hash of the names, sizes and
    times of the files: a change that keeps all three is not noticed.
    """
    root = tree.root.resolve()
    if cache_dir is None:
        # Not in `root`, where DomainBed reads every folder as an environment.
        folder = root.parent / CACHE / root.name
    else:
        folder = Path(cache_dir) / f"{root.name}-{hashlib.md5(str(root).encode('utf-8')).hexdigest()[:8]}"
    stamp = hashlib.md5(f"{VERSION} {SIDE}".encode())
    for path in tree.paths:
        stat = path.stat()
        stamp.update(f"{path.relative_to(tree.root).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    # `folder:` names have a character that not every file system takes.
    return folder / f"{name.replace(':', '-')}-{stamp.hexdigest()}"


def open_cache(name: str, tree: Tree, cache_dir: str | None, threads: int) -> Cache:
    """The cache of the benchmark `name`, built if there is none for its files."""
    folder = place_of(name, tree, cache_dir)
    if not folder.is_dir():
        build(folder, tree, threads)
        for old in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
            if old != folder and "partial" not in old.name:
                shutil.rmtree(old, ignore_errors=True)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    # Copy on write: PyTorch does not accept read-only memory.
    images = torch.from_numpy(np.load(folder / IMAGES, mmap_mode="c"))
    corrupt = {int(i): problem for i, problem in index["corrupt"].items()}
    return Cache(
        folder, images, [(height, width) for height, width in index["originals"]], corrupt, index["fingerprint"]
    )


def build(folder: Path, tree: Tree, threads: int) -> None:
    """Decodes the images of `tree` into the cache `folder`, which appears when complete; others may build it too."""
    partial = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{partial.parent} cannot be written to ({error.strerror}): give another --cache_dir"
        ) from error
    try:
        index = decode_all(tree, partial / IMAGES, threads)
        (partial / INDEX).write_text(json.dumps(index), encoding="utf-8")
        os.rename(partial, folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def decode_all(tree: Tree, file: Path, threads: int) -> dict[str, object]:
    """Decodes the images of `tree` into the array `file`; returns the entries of the index."""
    paths = tree.paths
    with ThreadPoolExecutor(threads) as pool:
        sizes = list(pool.map(size_of, paths))
        readable = {size for size in sizes if isinstance(size, tuple)}
        common = readable.pop() if len(readable) == 1 else (SIDE, SIDE)
        kept = common if max(common) <= SIDE else (SIDE, SIDE)
        images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(paths), *kept, 3))

        def decode(i: int) -> tuple[str | None, bytes]:
            """The error of a file, and the hash of its bytes."""
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
    return {
        "originals": [size if isinstance(size, tuple) else kept for size in sizes],
        "corrupt": {i: problem for i, problem in enumerate(problems) if problem},
        "fingerprint": fingerprint(part for file in zip(names, hashes, strict=True) for part in file),
    }


def size_of(path: Path) -> Size | str:
    """Height and width of an image from its header, or the error."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UNREADABLE as error:
        return first_line(error)


def decode_into(place: np.ndarray, file: BytesIO) -> str | None:
    """Decodes an image into uint8 (height, width, 3), or returns the error."""
    height, width = place.shape[:2]
    image = decoded(file)
    if isinstance(image, str):
        return image
    place[:] = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    return None


def decoded(file: Path | BytesIO) -> Image.Image | str:
    """An image file in RGB, or the error."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        return first_line(error)
