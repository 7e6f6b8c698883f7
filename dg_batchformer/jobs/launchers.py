"""Who runs the runs of a sweep: worker processes of this machine, SLURM, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dg_batchformer.errors import InputError, unknown
from dg_batchformer.jobs import slurm
from dg_batchformer.jobs.local import cpu_places, gpu_places
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.workers import Place


def print_commands(jobs: Sequence[Job], options: Options) -> None:
    """Prints the command of each run."""
    for job in jobs:
        print(job.command)


@dataclass(frozen=True)
class Launcher:
    """A way to run runs: on this machine, at `places`, or by handing them over.

    `submission` checks that they can be handed over, and returns what does it. `preview` prints what would be done, all
    that a launcher with neither does. What is wrong is an InputError before anything is written.
    """

    places: Callable[[Sequence[Job], Options], list[Place]] | None = None
    submission: Callable[[Sequence[Job], Options], Callable[[], None]] | None = None
    preview: Callable[[Sequence[Job], Options], None] = print_commands


LAUNCHERS = {
    "local": Launcher(places=cpu_places),
    "multi_gpu": Launcher(places=gpu_places),
    "slurm": Launcher(submission=slurm.submission, preview=slurm.preview),
    "dummy": Launcher(),
}

OWN_FLAGS = {"gpus": ["multi_gpu"], "slurm": ["slurm"], "n_workers": ["local", "slurm"]}
"""Flags that the other launchers would pass over."""


def find_launcher(name: str, options: Options) -> Launcher:
    """The launcher called `name`; an InputError lists all that is wrong with its options."""
    if name not in LAUNCHERS:
        raise InputError(unknown("launcher", name, LAUNCHERS))
    problems = options.problems()
    for flag, launchers in OWN_FLAGS.items():
        if getattr(options, flag) and name not in (*launchers, "dummy"):
            problems.append(f"--{flag} is for --command_launcher {' or '.join(launchers)}, not {name}: leave it out")
    if problems:
        raise InputError("\n".join(problems))
    return LAUNCHERS[name]
