"""The catalogue of benchmarks and how to load them: a new benchmark of image folders is an entry here.

Sources: PACS (Li et al., ICCV 2017), VLCS (Fang et al., ICCV 2013), OfficeHome (Venkateswara et al., CVPR 2017),
TerraIncognita (Beery et al., ECCV 2018), in the folders and the order of environments of DomainBed; those named `mdlt:`
have the long-tail splits of Yang et al. (ECCV 2022, https://arxiv.org/abs/2203.09513).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from dg_batchformer.data import spawrious, wilds
from dg_batchformer.data.folders import (
    FOLDER_PREFIX,
    MANIFEST_PREFIX,
    Benchmark,
    Source,
    images_root,
    path_free,
    subfolders,
)
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.machine import available_cores
from dg_batchformer.plugins import DATASETS, plugin, plugins

if TYPE_CHECKING:
    from dg_batchformer.data.environments import Dataset

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "benchmark_of",
    "find_benchmark",
    "images_root",
    "is_small",
    "load_dataset",
    "path_free",
]


# Loaders are imported late: reading results needs no torch.
def images(benchmark: Benchmark, source: Source) -> Dataset:
    """Image files in folders."""
    from dg_batchformer.data.loaders import load_images

    return load_images(benchmark, source)


def digits(benchmark: Benchmark, source: Source) -> Dataset:
    """The handwritten digits of scikit-learn."""
    from dg_batchformer.data.loaders import load_digits

    return load_digits(benchmark)


def noise(benchmark: Benchmark, source: Source) -> Dataset:
    """DomainBed's debugging data."""
    from dg_batchformer.data.loaders import load_noise

    return load_noise(benchmark)


def mnist(benchmark: Benchmark, source: Source) -> Dataset:
    """MNIST's digits, rotated or coloured."""
    from dg_batchformer.data.mnist import load

    return load(benchmark, source)


def image_folders(
    name: str, root: str, folders: dict[str, str], *published: tuple[int, ...], checkpoint_freq: int = 300
) -> Benchmark:
    """A benchmark of image files; `folders` maps its environments to folders below `root`."""
    environments, paths = tuple(folders), tuple(folders.values())
    return Benchmark(
        name,
        environments,
        checkpoint_freq=checkpoint_freq,
        root=root,
        folders=paths,
        published=published,
        load=images,
    )


VEHICLES = ("aclass", "escape", "hilux", "i3", "lexus", "tesla", "tiguan", "tucson", "x5", "zoe")

_KNOWN = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("Debug28", ("0", "1", "2"), checkpoint_freq=100, small=True, load=noise),
        Benchmark("Debug224", ("0", "1", "2"), checkpoint_freq=100, load=noise),
        Benchmark("RotatedDigits", ("0", "25", "50", "75"), steps=301, checkpoint_freq=20, small=True, load=digits),
        Benchmark("RotatedMNIST", ("0", "15", "30", "45", "60", "75"), checkpoint_freq=100, small=True, load=mnist),
        Benchmark("ColoredMNIST", ("+90%", "+80%", "-90%"), checkpoint_freq=100, small=True, load=mnist),
        image_folders(
            "VLCS",
            "VLCS",
            {"C": "Caltech101", "L": "LabelMe", "S": "SUN09", "V": "VOC2007"},
            (1415, 2656, 3282, 3376),
        ),
        image_folders(
            "PACS",
            "PACS",
            {"A": "art_painting", "C": "cartoon", "P": "photo", "S": "sketch"},
            (2048, 2344, 1670, 3929),
        ),
        image_folders(
            "OfficeHome",
            "office_home",
            {"A": "Art", "C": "Clipart", "P": "Product", "R": "Real World"},
            (2427, 4365, 4439, 4357),
        ),
        image_folders(
            "TerraIncognita",
            "terra_incognita",
            {"L100": "location_100", "L38": "location_38", "L43": "location_43", "L46": "location_46"},
            (4741, 9736, 3970, 5883),
            (4879, 9767, 4020, 6122),
        ),
        image_folders(
            "DomainNet",
            "domain_net",
            {
                "clip": "clipart",
                "info": "infograph",
                "paint": "painting",
                "quick": "quickdraw",
                "real": "real",
                "sketch": "sketch",
            },
            (48129, 51605, 72266, 172500, 172947, 69128),
            checkpoint_freq=1000,
        ),
        image_folders("SVIRO", "sviro", {name: name for name in VEHICLES}),
        *(
            Benchmark(
                f"Spawrious{name}",
                spawrious.ENVIRONMENTS,
                checkpoint_freq=100,
                original=(0, 0),
                load=images,
                tree=spawrious.tree,
            )
            for name in spawrious.PLACES
        ),
        *(
            Benchmark(
                name,
                tuple(f"{kind}_{i}" for i in range(n)),
                checkpoint_freq=100,
                original=(224, 224),
                load=images,
                tree=wilds.tree,
            )
            for name, kind, n in (("WILDSCamelyon", "hospital", 5), ("WILDSFMoW", "region", 6))
        ),
    )
}

_MULTI_DOMAIN_LONG_TAILS = (
    dataclasses.replace(
        _KNOWN[name],
        name=f"mdlt:{name}",
        checkpoint_freq=100,
        published=_KNOWN[name].published[:1],
        manifest=f"{name}.csv",
        tests=True,
        batch_size=24,
        shots=shots,
    )
    for name, shots in {
        "PACS": (100, 20),
        "VLCS": (100, 20),
        "OfficeHome": (60, 20),
        "TerraIncognita": (100, 25),
    }.items()
)
"""The benchmarks of Yang et al. (ECCV 2022, multi-domain-imbalance 2efbfef): batches, checkpoints and shots."""

BENCHMARKS = {**_KNOWN, **{benchmark.name: benchmark for benchmark in _MULTI_DOMAIN_LONG_TAILS}}


def benchmark_of(name: str) -> Benchmark | None:
    """The benchmark `name`, of this package or of a plug-in, or None."""
    found: Benchmark | None = BENCHMARKS.get(name) or plugin(DATASETS, name, Benchmark)
    return found


def is_small(name: str) -> bool:
    """Whether a dataset has DomainBed's hyper-parameters for small images."""
    found = benchmark_of(name)
    return found is not None and found.small


def find_benchmark(name: str) -> Benchmark:
    """The benchmark `name`; the subfolders of `folder:PATH` and the column env of `manifest:FILE` are environments."""
    if name.startswith(FOLDER_PREFIX):
        root = Path(name.removeprefix(FOLDER_PREFIX))
        if name == FOLDER_PREFIX or not root.is_dir():
            raise InputError(f"dataset {name!r} is not a folder: expected folder:PATH of an existing one")
        environments = tuple(path.name for path in subfolders(root)[0])
        return Benchmark(name, environments, root=str(root), load=images)
    if name.startswith(MANIFEST_PREFIX):
        from dg_batchformer.data.manifests import described

        environments, tests = described(name)
        file = name.removeprefix(MANIFEST_PREFIX)
        return Benchmark(name, environments, folders=environments, manifest=file, tests=tests, load=images)
    benchmark = benchmark_of(name)
    if benchmark is None:
        known = [*BENCHMARKS, *plugins(DATASETS)]
        raise InputError(f"{unknown('dataset', name, known)} (folder:PATH or manifest:FILE loads your own images)")
    return benchmark


def load_dataset(
    name: str,
    data_dir: str | None = None,
    *,
    cache_dir: str | None = None,
    skip_corrupt: bool = False,
    partial_classes: bool = False,
    image_cache: str | None = None,
    threads: int | None = None,
) -> Dataset:
    """Loads a benchmark; its `notes` name ignored folders and compare the image counts with the published ones.

    Images are read once into a cache, beside their folder or in `cache_dir`, and augmented by `threads` threads
    (default: one for each core). It keeps them as `image_cache` says: "decoded", or "encoded" as JPEG files of quality
    95 (default: decoded up to 80,000 images). Corrupt images are an InputError that lists them; with `skip_corrupt`
    they are skipped and listed in `skipped` and the notes. With `partial_classes` an environment may lack classes of
    the others.
    """
    benchmark = find_benchmark(name)
    source = Source(data_dir, cache_dir, skip_corrupt, partial_classes, image_cache, threads or available_cores())
    return benchmark.load(benchmark, source)
