"""The images of a benchmark, decoded once into a memory-mapped file; those of a large one as JPEG files in it.

The file is built completely or not at all, and again when a name, size or time of the images changes. Images keep their
size if all share one of at most SIDE pixels; otherwise they are resized to SIDE x SIDE. The original sizes and the
fingerprint of the files are kept beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from dg_batchformer.data.encoded import EncodedImages, encode
from dg_batchformer.data.environments import fingerprint
from dg_batchformer.data.folders import CACHE, CACHES, DECODED, ENCODED, Source, Tree
from dg_batchformer.errors import InputError, first_line, unknown

SIDE = 256
ENCODED_ABOVE = 80_000
"""The number of images up to which they are kept decoded, in at most 16 GB."""
VERSION = 3
IMAGES, FILES, BOUNDS, SIZES, INDEX = "images.npy", "images.jpegs", "bounds.npy", "sizes.npy", "index.json"

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Pillow's errors for files that are not images, or incomplete ones."""

Size = tuple[int, int]
"""Height and width."""


class Cache(NamedTuple):
    """The images of all environments, one after another: decoded, uint8 (n, height, width, 3), or encoded.

    `originals` (n, 2) are the height and width of each image in its file. `corrupt` has, by index, the errors of images
    that could not be decoded; these have no pixels. `fingerprint` is a hash of the names and bytes of all files,
    corrupt ones included, when the cache was built.
    """

    folder: Path
    images: Tensor | EncodedImages
    originals: Tensor
    corrupt: dict[int, str]
    fingerprint: str


def kind_of(n_images: int, asked: str | None) -> str:
    """Whether so many images are kept decoded or encoded, if nothing is asked."""
    if asked not in (None, *CACHES):
        raise InputError(unknown("image cache", asked, CACHES))
    return asked or (ENCODED if n_images > ENCODED_ABOVE else DECODED)


def place_of(name: str, tree: Tree, source: Source) -> Path:
    """The folder of the cache for the files of the benchmark `name`; it may not exist yet.

    It is below a hidden folder beside the images, or below `cache_dir`. The last part is a hash of the names, sizes and
    times of the files: a change that keeps all three is not noticed.
    """
    cache_dir, paths = source.cache_dir, tree.paths
    root = tree.root.resolve()
    if cache_dir is None:
        # Not in `root`, where DomainBed reads every folder as an environment.
        folder = root.parent / CACHE / root.name
    else:
        folder = Path(cache_dir) / f"{root.name}-{hashlib.md5(str(root).encode('utf-8')).hexdigest()[:8]}"
    kind = kind_of(len(paths), source.image_cache)
    stamp = hashlib.md5(f"{VERSION} {SIDE}".encode())
    for path in paths:
        stat = path.stat()
        stamp.update(f"{path.relative_to(tree.root).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    # `folder:` names have a character that not every file system takes.
    return folder / f"{name.replace(':', '-')}{'-encoded' * (kind == ENCODED)}-{stamp.hexdigest()}"


def open_cache(name: str, tree: Tree, source: Source) -> Cache:
    """The cache of the benchmark `name`, built if there is none for its files."""
    folder = place_of(name, tree, source)
    if not folder.is_dir():
        build(folder, tree, source)
        prefix = folder.name.rpartition("-")[0]
        for old in folder.parent.glob(f"{prefix}-*"):
            if old != folder and old.name.rpartition("-")[0] == prefix and "partial" not in old.name:
                shutil.rmtree(old, ignore_errors=True)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    corrupt = {int(i): problem for i, problem in index["corrupt"].items()}
    # Copy on write: PyTorch does not accept read-only memory.
    originals = torch.from_numpy(np.load(folder / SIZES, mmap_mode="c"))
    return Cache(folder, images_in(folder, index, source.threads), originals, corrupt, index["fingerprint"])


def images_in(folder: Path, index: dict[str, Any], threads: int) -> Tensor | EncodedImages:
    """The images in a cache, memory-mapped."""
    if not (folder / FILES).exists():
        return torch.from_numpy(np.load(folder / IMAGES, mmap_mode="c"))
    content = torch.from_numpy(np.memmap(folder / FILES, np.uint8, mode="c"))
    bounds = torch.from_numpy(np.load(folder / BOUNDS, mmap_mode="c"))
    return EncodedImages(content, bounds, tuple(index["kept"]), image_threads(threads))


def image_threads(threads: int) -> ThreadPoolExecutor:
    """Threads that decode and augment images, each with one thread of PyTorch."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


def build(folder: Path, tree: Tree, source: Source) -> None:
    """Writes the images of `tree` into the cache `folder`, which appears when complete; others may build it too."""
    partial = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{partial.parent} cannot be written to ({error.strerror}): give another --cache_dir"
        ) from error
    try:
        index = write_all(tree, partial, source)
        (partial / INDEX).write_text(json.dumps(index), encoding="utf-8")
        os.rename(partial, folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_all(tree: Tree, folder: Path, source: Source) -> dict[str, Any]:
    """Writes the images of `tree` and their sizes into files in `folder`; returns the entries of the index."""
    paths = tree.paths
    sizes = np.zeros((len(paths), 2), np.int32)
    corrupt: dict[int, str] = {}
    with ThreadPoolExecutor(source.threads) as pool:
        for i, size in enumerate(in_order(pool, size_of, paths)):
            if isinstance(size, str):
                corrupt[i] = size
            else:
                sizes[i] = size
        readable = {(height, width) for height, width in np.unique(sizes, axis=0).tolist() if height}
        common = readable.pop() if len(readable) == 1 else (SIDE, SIDE)
        kept = common if max(common) <= SIDE else (SIDE, SIDE)
        sizes[list(corrupt)] = kept
        kind = DecodedFile if kind_of(len(paths), source.image_cache) == DECODED else EncodedFile
        with kind(folder, len(paths), kept) as file:

            def write(i: int) -> tuple[str | None, bytes]:
                """The error of an image, and the hash of its file."""
                try:
                    content = paths[i].read_bytes()
                except OSError as error:
                    return first_line(error), b""
                problem = corrupt.get(i) or put(file, i, decoded(BytesIO(content)))
                return problem, hashlib.sha256(content).digest()

            def parts() -> Iterator[bytes]:
                """What the fingerprint is made of: the name and the hash of each file."""
                writing = in_order(pool, write, range(len(paths)))
                for i, (problem, digest) in enumerate(track(writing, f"reading {len(paths)} images", len(paths))):
                    if problem:
                        corrupt[i] = problem
                    yield paths[i].relative_to(tree.root).as_posix().encode()
                    yield digest

            content = fingerprint(parts())
    np.save(folder / SIZES, sizes)
    return {"kept": kept, "corrupt": corrupt, "fingerprint": content}


def in_order(pool: ThreadPoolExecutor, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """The results of a function in the order of its items; unlike those of `pool.map`, few wait in memory."""
    for start in range(0, len(items), 1024):
        yield from pool.map(function, items[start : start + 1024])


def put(file: DecodedFile | EncodedFile, i: int, image: Image.Image | str) -> str | None:
    """Writes an image in the size of the file, or returns its error."""
    if isinstance(image, str):
        return image
    size = file.size[::-1]
    file.put(i, image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))
    return None


class DecodedFile:
    """The pixels of n images, written by several threads."""

    def __init__(self, folder: Path, n: int, size: Size) -> None:
        self.size = size
        shape = (n, *size, 3)
        self.images = np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=shape)

    def put(self, i: int, image: Image.Image) -> None:
        self.images[i] = image

    def __enter__(self) -> DecodedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.images.flush()


class EncodedFile:
    """The JPEG files of n images, one after another as they come, written by several threads."""

    def __init__(self, folder: Path, n: int, size: Size) -> None:
        self.folder, self.size = folder, size
        self.bounds = np.zeros((n, 2), np.int64)
        self.file, self.lock = (folder / FILES).open("wb"), threading.Lock()

    def put(self, i: int, image: Image.Image) -> None:
        content = encode(image)
        with self.lock:
            start = self.file.tell()
            self.file.write(content)
            self.bounds[i] = start, start + len(content)

    def __enter__(self) -> EncodedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        np.save(self.folder / BOUNDS, self.bounds)


def size_of(path: Path) -> Size | str:
    """Height and width of an image from its header, or the error."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UNREADABLE as error:
        return first_line(error)


def decoded(file: Path | BytesIO) -> Image.Image | str:
    """An image file in RGB, or the error."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        return first_line(error)
