"""Who runs the runs of a sweep: worker processes of this machine, SLURM, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dg_batchformer.errors import InputError, unknown
from dg_batchformer.jobs.local import cpu_places, gpu_places, local, multi_gpu
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.queue import Report
from dg_batchformer.jobs.slurm import checked_executor, slurm
from dg_batchformer.jobs.workers import Place


@dataclass(frozen=True)
class Launcher:
    """A way to run runs: `run` reports each try that ends while it lasts.

    `places` are where it runs them on this machine, if it does, and `check` raises an InputError where it cannot.
    """

    run: Callable[[Sequence[Job], Options, Report], None]
    places: Callable[[Sequence[Job], Options], list[Place]] | None = None
    check: Callable[[Sequence[Job], Options], Any] | None = None


def dummy(jobs: Sequence[Job], options: Options, report: Report) -> None:
    """Runs nothing; prints the command of each run."""
    for job in jobs:
        print(job.command)


LAUNCHERS = {
    "local": Launcher(local, cpu_places),
    "multi_gpu": Launcher(multi_gpu, gpu_places),
    "slurm": Launcher(slurm, check=checked_executor),
    "dummy": Launcher(dummy),
}


def find_launcher(name: str) -> Launcher:
    """The launcher called `name`."""
    if name not in LAUNCHERS:
        raise InputError(unknown("launcher", name, LAUNCHERS))
    return LAUNCHERS[name]
