"""Who runs the runs of a sweep: worker processes of this machine, or nobody."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait

from dg_batchformer import machine
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.hparams import SMALL_IMAGES
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.status import last_lines
from dg_batchformer.jobs.workers import Ended, Waiting, Worker, sharing
from dg_batchformer.training import records
from dg_batchformer.training.arguments import RunArguments, parse_hparams
from dg_batchformer.training.claim import Watch, latest

LOOK_SECONDS = 2.0
"""Between two looks at the runs that other launchers have."""

Report = Callable[[Ended], None]

Launcher = Callable[[Sequence[Job], int, Report], None]


def default_workers(jobs: Sequence[Job], jobs_per_gpu: int) -> int:
    """Worker processes: one a core for small inputs, one for four cores for large ones; `jobs_per_gpu` on a GPU."""
    if machine.device() == "cuda":
        return jobs_per_gpu
    small = all(has_small_inputs(job.arguments) for job in jobs)
    return max(1, min(len(jobs), machine.available_cores() // (1 if small else 4)))


def has_small_inputs(arguments: RunArguments) -> bool:
    """Whether a run trains on small images, or on the features of a frozen backbone."""
    frozen = parse_hparams(arguments.hparams).get("freeze_backbone", False)
    return bool(frozen) or arguments.dataset in SMALL_IMAGES


def threads_of_each(n_workers: int) -> int:
    """A worker's share of the cores."""
    return max(1, machine.available_cores() // n_workers)


def dummy(jobs: Sequence[Job], n_workers: int, report: Report) -> None:
    """Runs nothing; prints the command of each run."""
    for job in jobs:
        print(job.command)


def local(jobs: Sequence[Job], n_workers: int, report: Report) -> None:
    """Runs jobs in `n_workers` processes of this machine, each with its share of the cores.

    A worker runs one job after another without a new interpreter. One that dies (killed, out of memory) costs the
    run it had, which is marked failed, and is replaced. `report` is called as runs end. Several workers on a GPU read
    one copy of the decoded images there. What another launcher runs is left to it, and taken over if that one dies.
    """
    waiting, elsewhere = deque((job, "") for job in jobs), deque[Job]()
    watch = Watch()
    n_workers = min(n_workers, len(jobs))
    share = sharing(n_workers)
    workers = [Worker(threads_of_each(n_workers), share) for _ in range(n_workers)]
    try:
        while waiting or elsewhere or any(worker.job for worker in workers):
            for worker in workers:
                if not worker.job:
                    worker.give(waiting)
            handles = [handle for worker in workers if worker.job for handle in worker.handles]
            ready = wait(handles, LOOK_SECONDS if elsewhere else None)
            for worker in workers:
                if worker.job and any(handle in ready for handle in worker.handles):
                    ended = worker.collect()
                    if ended.elsewhere:
                        elsewhere.append(ended.job)
                    else:
                        report(ended)
            look(elsewhere, waiting, watch, report)
    finally:
        for worker in workers:
            worker.stop()


def look(elsewhere: deque[Job], waiting: deque[Waiting], watch: Watch, report: Report) -> None:
    """Reports runs of other launchers that have ended, and puts those that nobody has any more among the waiting."""
    for _ in range(len(elsewhere)):
        job = elsewhere.popleft()
        state = job.state
        if state in ("done", "failed"):
            error = " ".join(last_lines(job.folder / records.FAILED)) if state == "failed" else None
            report(Ended(job, 0.0, error, elsewhere=True))
        elif watch.is_free(job.folder):
            claim = latest(job.folder)
            waiting.append((job, claim.name if claim else ""))
        else:
            elsewhere.append(job)


LAUNCHERS: dict[str, Launcher] = {"local": local, "dummy": dummy}


def find_launcher(name: str) -> Launcher:
    """The launcher called `name`."""
    if name not in LAUNCHERS:
        raise InputError(unknown("launcher", name, LAUNCHERS))
    return LAUNCHERS[name]
