"""Common parts of the benchmarks: clocks, ratios, and both sides' commands with the same images and weights."""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision

from dg_batchformer import machine
from dg_batchformer.data import find_benchmark, images_root

BACKBONES = ("resnet18", "resnet50")
ON_GPU = torch.cuda.is_available()


def header(args: argparse.Namespace) -> str:
    """The measured command, the machine and the versions."""
    flags = " ".join(f"{name}={value}" for name, value in vars(args).items() if value not in (None, ""))
    return f"{machine.available_cores()} cores; {machine.device_name()}; {machine.versions()}\n{flags}"


def clock() -> float:
    """Seconds, after the GPU has finished its work."""
    if ON_GPU:
        torch.cuda.synchronize()
    return time.monotonic()


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Turn by turn."""
    return [a / b for a, b in zip(over, under, strict=True)]


def seconds(command: Sequence[object], environment: Mapping[str, str]) -> float:
    """The seconds of a command; shows its output if it fails."""
    started = time.monotonic()
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout[-4000:]}\nended with status {done.returncode}: {' '.join(words)}")
    return time.monotonic() - started


def environments(domainbed: str | None, folder: Path, torch_home: Path | None = None) -> dict[str, dict[str, str]]:
    """Environment variables of our commands and of DomainBed's, by side.

    DomainBed imports `wilds` for two datasets that are not used here: if it is missing, a stub in `folder` replaces it.
    """
    if not domainbed or not Path(domainbed, "domainbed").is_dir():
        raise SystemExit(f"no checkout of DomainBed at {domainbed}: give --domainbed, or set DOMAINBED")
    paths = [str(Path(domainbed).resolve())]
    if importlib.util.find_spec("wilds") is None:
        datasets = folder / "stand_in" / "wilds" / "datasets"
        datasets.mkdir(parents=True)
        for module, name in (("camelyon17_dataset", "Camelyon17Dataset"), ("fmow_dataset", "FMoWDataset")):
            (datasets / f"{module}.py").write_text(f"{name} = object\n")
        paths.append(str(folder / "stand_in"))
    ours = {**os.environ, **({"TORCH_HOME": str(torch_home)} if torch_home else {})}
    # Its sweeps start "python", which must be this one.
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    inherited = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    theirs = {**ours, "PYTHONPATH": os.pathsep.join([*paths, *inherited]), "PYTHONWARNINGS": "ignore", "PATH": python}
    return {"ours": ours, "DomainBed": theirs}


def torch_home(folder: Path, backbone: str, weights: str | None) -> Path:
    """A TORCH_HOME in which both sides find a file, or the same random weights, as the backbone's ImageNet weights."""
    home = folder / "torch"
    (home / "hub" / "checkpoints").mkdir(parents=True)
    url = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].url
    path = home / "hub" / "checkpoints" / Path(urlparse(url).path).name
    if weights:
        path.symlink_to(Path(weights).resolve(strict=True))
    else:
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(backbone, weights=None).state_dict(), path)
    return home


def pacs(data_dir: str, images: int, folder: Path) -> str:
    """A data folder whose PACS has the first `images` of each class and environment, as links (0: all there are)."""
    if not images:
        return data_dir
    benchmark = find_benchmark("PACS")
    root = images_root(benchmark, data_dir).resolve()
    for environment in benchmark.folders:
        for path in sorted(path for path in (root / environment).iterdir() if path.is_dir()):
            links = folder / "data" / "PACS" / environment / path.name
            links.mkdir(parents=True)
            for image in sorted(path.iterdir())[:images]:
                (links / image.name).symlink_to(image)
    return str(folder / "data")
