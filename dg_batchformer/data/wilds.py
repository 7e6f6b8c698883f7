"""Camelyon17 and FMoW of WILDS (Koh et al., ICML 2021), with DomainBed's environments: hospitals and regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dg_batchformer.data.folders import Benchmark, Folder, Source, Tree, data_folder
from dg_batchformer.errors import InputError

FIELDS = {"WILDSCamelyon": "hospital", "WILDSFMoW": "region"}


def tree(benchmark: Benchmark, source: Source) -> Tree:
    """The images in `data_dir`, as `wilds` stores them; InputError if it is not installed or has no data there."""
    folder = data_folder(benchmark, source.data_dir, "in which `wilds` keeps its data")
    try:
        from wilds.datasets.camelyon17_dataset import Camelyon17Dataset
        from wilds.datasets.fmow_dataset import FMoWDataset
    except ImportError as error:
        raise InputError(f"dataset {benchmark.name} needs wilds ({error}): install the extra `wilds`") from error
    cls = Camelyon17Dataset if benchmark.name == "WILDSCamelyon" else FMoWDataset
    try:
        dataset = cls(root_dir=str(folder), download=False)
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no data of {benchmark.name}: expected the folder of wilds") from error
    paths = camelyon_paths(dataset) if benchmark.name == "WILDSCamelyon" else fmow_paths(dataset)
    values = dataset.metadata_array[:, dataset.metadata_fields.index(FIELDS[benchmark.name])].tolist()
    labels = dataset.y_array.tolist()
    found = sorted(set(values))
    if len(found) != len(benchmark.environments):
        raise InputError(f"{dataset.data_dir} has {len(found)} environments: expected {len(benchmark.environments)}")
    folders = []
    for name, value in zip(benchmark.environments, found, strict=True):
        own = [i for i, one in enumerate(values) if one == value]
        folders.append(Folder(name, [paths[i] for i in own], [labels[i] for i in own]))
    return Tree(Path(dataset.data_dir), folders, list(map(str, range(dataset.n_classes))), [])


# `wilds` gives images without their files: these are the paths that its `get_input` opens.
def camelyon_paths(dataset: Any) -> list[Path]:
    """The files of Camelyon17's patches."""
    return [Path(dataset.data_dir) / path for path in dataset._input_array]


def fmow_paths(dataset: Any) -> list[Path]:
    """The files of FMoW's images."""
    return [Path(dataset.data_dir) / "images" / f"rgb_img_{i}.png" for i in dataset.full_idxs]
