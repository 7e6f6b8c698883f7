"""What is known of a benchmark before it is loaded, and where its images lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dg_batchformer.errors import InputError

if TYPE_CHECKING:
    from dg_batchformer.data.environments import Dataset

FOLDER_PREFIX = "folder:"
"""`folder:PATH` names the images in `PATH/<environment>/<class>/` as a dataset."""


class Source(NamedTuple):
    """Where image files and their cache lie, whether corrupt ones are left out, and how many threads read them."""

    data_dir: str | None
    cache_dir: str | None
    skip_corrupt: bool
    threads: int


@dataclass(frozen=True)
class Benchmark:
    """What is known of a benchmark before it is loaded.

    `environments` are DomainBed's names, `folders` those on the disk below `root`, in the same order; `published`
    are the image counts of the versions in circulation, by environment. `small` ones have DomainBed's hyper-parameters
    of small images. `load` makes the dataset; those that only DomainBed can load have none.
    """

    name: str
    environments: tuple[str, ...]
    steps: int = 5001
    checkpoint_freq: int = 300
    root: str = ""
    folders: tuple[str, ...] = ()
    published: tuple[tuple[int, ...], ...] = ()
    small: bool = False
    load: Callable[[Benchmark, Source], Dataset] | None = None


def path_free(name: str) -> str:
    """A dataset's name without the path of `folder:PATH`: data that moved is the same data."""
    if name.startswith(FOLDER_PREFIX):
        return FOLDER_PREFIX + Path(name.removeprefix(FOLDER_PREFIX)).resolve().name
    return name


def images_root(benchmark: Benchmark, data_dir: str | None) -> Path:
    """Where a benchmark's environments lie: DomainBed's folder below `data_dir`, or `data_dir` itself."""
    if benchmark.name.startswith(FOLDER_PREFIX):
        return Path(benchmark.root)
    if data_dir is None:
        raise InputError(f"dataset {benchmark.name} needs --data_dir, the folder in which {benchmark.root}/ lies")
    below = Path(data_dir) / benchmark.root
    if below.is_dir():
        return below
    if (Path(data_dir) / benchmark.folders[0]).is_dir():
        return Path(data_dir)
    raise InputError(
        f"{below} is not a folder: expected the environments {', '.join(benchmark.folders)} of {benchmark.name} there"
    )
