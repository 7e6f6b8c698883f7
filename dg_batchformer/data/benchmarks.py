"""The catalogue of benchmarks, and how each is loaded.

Sources: PACS (Li et al., ICCV 2017), VLCS (Fang et al., ICCV 2013), OfficeHome (Venkateswara et al., CVPR 2017),
TerraIncognita (Beery et al., ECCV 2018), in the folders and the order of environments of DomainBed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dg_batchformer.data.fingerprint import fingerprint
from dg_batchformer.data.folders import scan, subfolders
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.machine import available_cores

if TYPE_CHECKING:
    from dg_batchformer.data.environments import Dataset, Environment

FOLDER_PREFIX = "folder:"
"""`folder:PATH` names the images in `PATH/<environment>/<class>/` as a dataset."""


@dataclass(frozen=True)
class Benchmark:
    """What is known of a benchmark before it is loaded.

    `environments` are DomainBed's names, `folders` those on the disk below `root`, in the same order; `published`
    are the image counts of the versions in circulation, by environment.
    """

    name: str
    environments: tuple[str, ...]
    steps: int = 5001
    checkpoint_freq: int = 300
    root: str = ""
    folders: tuple[str, ...] = ()
    published: tuple[tuple[int, ...], ...] = ()


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("Debug28", ("0", "1", "2"), checkpoint_freq=100),
        Benchmark("Debug224", ("0", "1", "2"), checkpoint_freq=100),
        Benchmark("RotatedDigits", ("0", "25", "50", "75"), steps=301, checkpoint_freq=20),
        Benchmark(
            "VLCS",
            ("C", "L", "S", "V"),
            root="VLCS",
            folders=("Caltech101", "LabelMe", "SUN09", "VOC2007"),
            published=((1415, 2656, 3282, 3376),),
        ),
        Benchmark(
            "PACS",
            ("A", "C", "P", "S"),
            root="PACS",
            folders=("art_painting", "cartoon", "photo", "sketch"),
            published=((2048, 2344, 1670, 3929),),
        ),
        Benchmark(
            "OfficeHome",
            ("A", "C", "P", "R"),
            root="office_home",
            folders=("Art", "Clipart", "Product", "Real World"),
            published=((2427, 4365, 4439, 4357),),
        ),
        Benchmark(
            "TerraIncognita",
            ("L100", "L38", "L43", "L46"),
            root="terra_incognita",
            folders=("location_100", "location_38", "location_43", "location_46"),
            published=((4741, 9736, 3970, 5883), (4879, 9767, 4020, 6122)),
        ),
    )
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark called `name`, or that of `folder:PATH`, whose folders are its environments."""
    if name.startswith(FOLDER_PREFIX):
        root = Path(name.removeprefix(FOLDER_PREFIX))
        if name == FOLDER_PREFIX or not root.is_dir():
            raise InputError(f"dataset {name!r} is not a folder: expected folder:PATH of an existing one")
        environments = tuple(path.name for path in subfolders(root)[0])
        return Benchmark(name, environments, root=str(root))
    if name not in BENCHMARKS:
        raise InputError(f"{unknown('dataset', name, BENCHMARKS)} (folder:PATH names images of your own)")
    return BENCHMARKS[name]


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


def load_dataset(
    name: str,
    data_dir: str | None = None,
    *,
    cache_dir: str | None = None,
    skip_corrupt: bool = False,
    threads: int | None = None,
) -> Dataset:
    """Loads a benchmark; its `notes` say what was passed over and how its image counts compare.

    Images are decoded once into a cache, beside their folder or in `cache_dir`, and augmented by `threads` threads, by
    default one a core. Corrupt ones are an InputError that names them; with `skip_corrupt` they are left out, and
    `skipped` and the notes say which.
    """
    from dg_batchformer.data.environments import Dataset

    benchmark = find_benchmark(name)
    if name == "RotatedDigits":
        from dg_batchformer.data.digits import SIZE, digits_fingerprint, rotated_digits

        angles = [int(angle) for angle in benchmark.environments]
        return Dataset(
            name,
            list(rotated_digits(angles)),
            (1, SIZE, SIZE),
            10,
            benchmark.steps,
            benchmark.checkpoint_freq,
            fingerprint=digits_fingerprint(angles),
        )
    if name.startswith("Debug"):
        shape = (3, 28, 28) if name == "Debug28" else (3, 224, 224)
        noise = _noise(benchmark, shape)
        # Labels tell where the generator was; the last bits of what is drawn before them depend on the processor.
        content = fingerprint([repr(shape).encode(), *(one.labels.numpy().tobytes() for one in noise)])
        return Dataset(name, noise, shape, 2, benchmark.steps, benchmark.checkpoint_freq, fingerprint=content)
    root = images_root(benchmark, data_dir)
    return _load_images(benchmark, root, cache_dir, skip_corrupt, threads or available_cores())


def _noise(benchmark: Benchmark, shape: tuple[int, ...]) -> list[Environment]:
    """DomainBed's debugging data: 16 images of noise an environment, two classes."""
    import torch

    from dg_batchformer.data.environments import TensorEnvironment

    generator = torch.Generator().manual_seed(0)
    return [
        TensorEnvironment(
            environment,
            torch.randn(16, *shape, generator=generator),
            torch.randint(0, 2, (16,), generator=generator),
        )
        for environment in benchmark.environments
    ]


def _load_images(benchmark: Benchmark, root: Path, cache_dir: str | None, skip_corrupt: bool, threads: int) -> Dataset:
    import torch

    from dg_batchformer.data.augment import SIZE
    from dg_batchformer.data.cache import open_cache
    from dg_batchformer.data.environments import Dataset, ImageEnvironment

    tree = scan(root, benchmark.folders or None)
    cache = open_cache(path_free(benchmark.name), root, tree.folders, cache_dir, threads)
    paths = [path for folder in tree.folders for path in folder.paths]
    skipped = [f"{paths[i].relative_to(root)}: {problem}" for i, problem in sorted(cache.corrupt.items())]
    if skipped and not skip_corrupt:
        raise InputError(corrupt_images(root, skipped))
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    environments: list[Environment] = []
    start = 0
    for environment, folder in zip(benchmark.environments, tree.folders, strict=True):
        end = start + len(folder.paths)
        sound = [i - start for i in range(start, end) if i not in cache.corrupt]
        images, originals, labels = cache.images[start:end], cache.originals[start:end], torch.tensor(folder.labels)
        if len(sound) < end - start:
            images, originals, labels = images[sound], [originals[i] for i in sound], labels[sound]
        environments.append(ImageEnvironment(environment, images, originals, labels, pool))
        start = end
    return Dataset(
        benchmark.name,
        environments,
        (3, SIZE, SIZE),
        len(tree.classes),
        benchmark.steps,
        benchmark.checkpoint_freq,
        [*_ignored(tree.ignored), *_count_notes(benchmark, environments), *_skipped_note(skipped)],
        skipped,
        cache.folder,
        fingerprint=cache.fingerprint,
    )


def corrupt_images(root: Path, named: list[str]) -> str:
    """What is said of corrupt images."""
    more = f"\nand {len(named) - 20} more" if len(named) > 20 else ""
    listed = "\n".join(named[:20])
    return f"{len(named)} corrupt image(s) in {root}: replace or remove them, or --skip_corrupt\n{listed}{more}"


def _skipped_note(skipped: list[str]) -> list[str]:
    return [f"WARNING: skipped {len(skipped)} corrupt image(s): {'; '.join(skipped)}"] if skipped else []


def _ignored(names: list[str]) -> list[str]:
    return [f"ignored folders: {', '.join(names)}"] if names else []


def _count_notes(benchmark: Benchmark, environments: list[Environment]) -> list[str]:
    """How the images found compare with the published counts."""
    counts = tuple(len(environment.labels) for environment in environments)
    listed = ", ".join(f"{name} {count}" for name, count in zip(benchmark.environments, counts, strict=True))
    found = f"{sum(counts)} images ({listed})"
    if not benchmark.published:
        return [found]
    totals = " or ".join(f"{sum(version):,}" for version in benchmark.published)
    if counts in benchmark.published:
        return [
            f"{found}: a published version of {benchmark.name}" + f" (of {totals})" * (len(benchmark.published) > 1)
        ]
    versions = " or ".join(
        ", ".join(f"{name} {count}" for name, count in zip(benchmark.environments, version, strict=True))
        for version in benchmark.published
    )
    return [f"WARNING: {found}: not the published {benchmark.name} of {totals} ({versions})"]
