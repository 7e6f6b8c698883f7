"""Runs in worker processes of this machine: where, and how they are kept busy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait

from dg_batchformer import machine
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import SMALL_IMAGES
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.queue import LOOK_SECONDS, Entry, Queue, Report
from dg_batchformer.jobs.workers import Place, Worker, sharing, stop
from dg_batchformer.runs.arguments import RunArguments, parse_hparams
from dg_batchformer.training.interrupt import Interrupted, handled


def cpu_places(jobs: Sequence[Job], options: Options) -> list[Place]:
    """Workers of the local launcher: `n_workers`, else one a core for small inputs, one for four cores for large ones.

    Where there is a GPU they share the first one, `jobs_per_gpu` at once.
    """
    if machine.device() == "cuda":
        places: list[Place] = [0] * (options.n_workers or options.jobs_per_gpu)
        return places[: len(jobs)]
    small = all(has_small_inputs(job.arguments) for job in jobs)
    usual = max(1, machine.available_cores() // (1 if small else 4))
    return [None] * min(options.n_workers or usual, len(jobs))


def gpu_places(jobs: Sequence[Job], options: Options) -> list[Place]:
    """Workers of the multi_gpu launcher: `jobs_per_gpu` on each of `gpus`, or of all that there are, in turn."""
    n_gpus = machine.gpu_count()
    if not n_gpus:
        raise InputError("multi_gpu finds no GPU here: expected at least one, or --command_launcher local")
    gpus = options.gpus if options.gpus is not None else tuple(range(n_gpus))
    wrong = [gpu for gpu in gpus if not 0 <= gpu < n_gpus]
    if wrong or not gpus or len(set(gpus)) < len(gpus):
        given = ",".join(map(str, gpus))
        raise InputError(f"--gpus is {given!r}: expected some of {', '.join(map(str, range(n_gpus)))}, each once")
    places: list[Place] = [*gpus] * options.jobs_per_gpu
    return places[: len(jobs)]


def has_small_inputs(arguments: RunArguments) -> bool:
    """Whether a run trains on small images, or on the features of a frozen backbone."""
    frozen = parse_hparams(arguments.hparams).get("freeze_backbone", False)
    return bool(frozen) or arguments.dataset in SMALL_IMAGES


def threads_of_each(n_workers: int) -> int:
    """A worker's share of the cores."""
    return max(1, machine.available_cores() // n_workers)


def run_at(
    places: Sequence[Place], jobs: Sequence[Job], options: Options, report: Report, *, wait_for_others: bool = True
) -> None:
    """Runs jobs in a worker process for each place, each with its share of the cores.

    A worker runs one job after another without a new interpreter. One that dies (killed, out of memory) costs the
    run it had, which is marked failed, and is replaced. `report` is called as tries end. Several workers on a GPU read
    one copy of the decoded images there. What another launcher runs is left to it, and taken over if that one dies.
    SIGTERM, SIGUSR1, SIGUSR2, SIGHUP and Ctrl-C have the workers save what they run and leave.
    """
    queue = Queue(jobs, options, report, wait=wait_for_others)
    share, threads = sharing(places), threads_of_each(len(places))
    workers: list[Worker] = []
    running: dict[Worker, Entry] = {}
    with signals_raise():
        try:
            for place in places:
                workers.append(Worker(threads, share, place))
            while queue.is_open or running:
                for worker in workers:
                    if worker not in running and (entry := queue.next()):
                        worker.give(entry.job, entry.lost_claim)
                        running[worker] = entry
                collect(queue, running, options)
                queue.look()
        finally:
            stop(workers)


def collect(queue: Queue, running: dict[Worker, Entry], options: Options) -> None:
    """Waits until a run ends, or it is time to look after those that last too long or are run elsewhere."""
    if not running and not queue.elsewhere:
        return  # what was left has just ended elsewhere
    # Which end when their process does.
    connections = [worker.connection for worker in running]
    ready = wait(connections, LOOK_SECONDS if queue.elsewhere or options.timeout else None)
    for worker, entry in list(running.items()):
        if worker.connection in ready:
            del running[worker]
            answer = worker.collect()
            if answer.taken:
                queue.taken(entry)
            else:
                queue.ended(entry, worker.seconds, answer.error, may_pass=answer.may_pass)
        elif options.timeout and worker.seconds > 60 * options.timeout:
            worker.leave(
                f"took longer than the {options.timeout:g} minutes of --timeout; another try goes on from there"
            )


@contextmanager
def signals_raise() -> Iterator[None]:
    """While this lasts, what asks a process to leave raises Interrupted, once, as Ctrl-C raises KeyboardInterrupt."""
    asked: list[str] = []

    def leave(name: str) -> None:
        if not asked:
            asked.append(name)
            raise Interrupted(name)

    with handled(("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP"), leave):
        yield
