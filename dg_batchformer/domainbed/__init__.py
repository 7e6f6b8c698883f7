"""The DomainBed plug-in: MixStyle, BatchFormer and SWAD for all its algorithms, in its own scripts.

`python -m dg_batchformer.domainbed train|sweep|collect ...` runs DomainBed's script of that name, with its flags, after
`register()`; so do the jobs of its sweeps. DomainBed's checkout must be on PYTHONPATH.
"""

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dg_batchformer import within
from dg_batchformer.errors import InputError
from dg_batchformer.machine import available_cores, device
from dg_batchformer.registry import ALGORITHMS
from dg_batchformer.within import DOMAINBED

EXPECTED = f"expected {DOMAINBED.source}"


def register() -> None:
    """Adds this package's algorithms, their hyper-parameters and a launcher to DomainBed; repeated calls do nothing.

    Every algorithm X in `domainbed.algorithms.ALGORITHMS` gets X_MixStyle, X_BatchFormer, X_SWAD and their
    compositions, based on DomainBed's X; a variant has the draws of its base. The standard names join that list;
    MixStyle and SWAD apply to ERM. DomainBed's launchers and the new `cpu_workers` start jobs that register too. Names
    in DomainBed keep their meaning. Raises InputError, with nothing registered, if DomainBed cannot be imported or has
    changed.
    """
    algorithms, _, launchers, _ = within.register(DOMAINBED)
    listed = set(algorithms.ALGORITHMS)
    algorithms.ALGORITHMS += [name for name in ALGORITHMS if name in vars(algorithms) and name not in listed]
    launchers.REGISTRY.setdefault("cpu_workers", cpu_workers)
    for name, launcher in launchers.REGISTRY.items():
        if not hasattr(launcher, "extends"):
            launchers.REGISTRY[name] = registering(launcher, needs_gpu=name == "multi_gpu")


CommandLauncher = Callable[[list[str]], None]

THEIR_TRAIN = "python -m domainbed.scripts.train"
OUR_TRAIN = f"{shlex.quote(sys.executable)} -m dg_batchformer.domainbed train"


def registering(launcher: CommandLauncher, *, needs_gpu: bool) -> CommandLauncher:
    """A launcher whose jobs call `register` too."""

    @functools.wraps(launcher)
    def launch(commands: list[str]) -> None:
        if needs_gpu and device() == "cpu" and not os.environ.get("CUDA_VISIBLE_DEVICES"):
            raise InputError("multi_gpu finds no GPU here and would wait for one: use cpu_workers or local")
        launcher([command.replace(THEIR_TRAIN, OUR_TRAIN, 1) for command in commands])

    launch.extends = launcher  # type: ignore[attr-defined]
    return launch


def cpu_workers(commands: list[str]) -> None:
    """Runs a command on each core, with one thread each, and prints which failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(command: str) -> int:
        return subprocess.run(command, shell=True, env=environment).returncode

    n_failed = 0
    with ThreadPoolExecutor(available_cores()) as pool:
        for n, (command, code) in enumerate(zip(commands, pool.map(run, commands), strict=True), start=1):
            n_failed += code != 0
            print(f"[{n}/{len(commands)}] {f'FAILED ({code})' if code else 'done'}: {command}", flush=True)
    print(f"{len(commands) - n_failed} done, {n_failed} failed")
