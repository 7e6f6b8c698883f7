"""Common parts of the benchmarks: clocks, ratios, and both sides' commands with the same images and weights."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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


def answer(turn: Callable[[], float]) -> None:
    """In the process of a side: says that it is ready, then answers each line of its input with a turn."""
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        print(json.dumps(turn()), flush=True)


class Side:
    """The process of a side, which `answer`s: its turns, and the most memory that it and its workers had."""

    def __init__(self, command: Sequence[object]) -> None:
        words = [sys.executable, *map(str, command)]
        started = time.monotonic()
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.mib = 0.0
        threading.Thread(target=self._watch, daemon=True).start()
        self._answer()
        self.seconds = time.monotonic() - started
        self.rates: list[float] = []

    def turn(self) -> None:
        assert self.process.stdin
        print(file=self.process.stdin, flush=True)
        self.rates.append(float(self._answer()))

    def end(self) -> None:
        """Ends the process and its workers, which may be stopped."""
        for pid in family(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def _answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a side has failed")
        return str(json.loads(line))

    def _watch(self) -> None:
        while self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.mib = max(self.mib, anonymous_mib(family(self.process.pid)))
            time.sleep(0.2)


def family(pid: int) -> list[int]:
    """A process and those that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def anonymous_mib(pids: Sequence[int]) -> float:
    """The memory of processes beside mapped files, in MiB; what they share counts once."""
    # The first is slow, and a single process shares nothing.
    file, name = ("smaps_rollup", "Pss_Anon") if len(pids) > 1 else ("status", "RssAnon")
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
