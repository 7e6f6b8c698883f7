"""DomainBed's launchers: lists of shell commands, which train with the registration done."""

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dg_batchformer.errors import InputError
from dg_batchformer.machine import available_cores, device

CommandLauncher = Callable[[list[str]], None]

THEIR_TRAIN = "python -m domainbed.scripts.train"
OUR_TRAIN = f"{shlex.quote(sys.executable)} -m dg_batchformer.domainbed train"


def registering(launcher: CommandLauncher, *, needs_gpu: bool) -> CommandLauncher:
    """A launcher whose jobs know what `register` adds."""

    @functools.wraps(launcher)
    def launch(commands: list[str]) -> None:
        if needs_gpu and device() == "cpu" and not os.environ.get("CUDA_VISIBLE_DEVICES"):
            raise InputError("multi_gpu finds no GPU here, and would wait for one: use cpu_workers or local")
        launcher([command.replace(THEIR_TRAIN, OUR_TRAIN, 1) for command in commands])

    launch.extends = launcher  # type: ignore[attr-defined]
    return launch


def cpu_workers(commands: list[str]) -> None:
    """Runs as many commands at once as there are cores, one thread each, and says which of them failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(command: str) -> int:
        return subprocess.run(command, shell=True, env=environment).returncode

    n_failed = 0
    with ThreadPoolExecutor(available_cores()) as pool:
        for n, (command, code) in enumerate(zip(commands, pool.map(run, commands), strict=True), start=1):
            n_failed += code != 0
            print(f"[{n}/{len(commands)}] {f'FAILED ({code})' if code else 'done'}: {command}", flush=True)
    print(f"{len(commands) - n_failed} done, {n_failed} failed")
