"""Processes that run one job after another, and what they share."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from dg_batchformer import machine
from dg_batchformer.jobs.plan import Job
from dg_batchformer.training import records
from dg_batchformer.training.arguments import data_arguments
from dg_batchformer.training.claim import TakenError


@dataclass(frozen=True)
class Ended:
    """How a run ended: `error` is None where it is done; `elsewhere`, by another launcher, which had it at the time."""

    job: Job
    seconds: float
    error: str | None
    elsewhere: bool = False


TAKEN = "taken"
"""What a worker answers when another process has the run it was given."""

LEFT = "left"
"""What a worker answers when a signal has asked it to leave: its run is saved."""

LEAVE_SECONDS = 60
"""For a worker that is stopped: a step, and writing its state."""

DataArguments = tuple[tuple[str, Any], ...]

Waiting = tuple[Job, str]
"""A job, and the name of the claim on it that was found lost, if one was."""

Share = Callable[[DataArguments], Any]
"""Gives what all workers share of a dataset, which the arguments of `load_dataset` name."""

PRELOADED = ["dg_batchformer.cli", "dg_batchformer.training.run", "torch._dynamo"]
"""What workers need; the last is a second's import, which torch's optimizers make at their first step."""


@functools.cache
def start_method() -> Any:
    """How workers start: as forks of one process that has imported what they need, else each with its own imports."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def warm_up() -> None:
    """Starts what workers are forked from, so that it imports what they need while this process prepares."""
    if start_method().get_start_method() == "forkserver":
        # It inherits that signals are the launcher's: Ctrl-C, and SLURM's, which go to all processes of a job.
        names = [name for name in ("SIGINT", "SIGTERM", "SIGUSR2") if hasattr(signal, name)]
        before = {name: signal.signal(getattr(signal, name), signal.SIG_IGN) for name in names}
        forkserver.ensure_running()
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def sharing(n_workers: int) -> Share:
    """What so many workers share: on a GPU decoded images; on a CPU they map the same file into memory anyway."""
    if machine.device() == "cuda" and n_workers > 1:
        # Runs come dataset by dataset: two at a time are in use at most, while one follows the other.
        return functools.lru_cache(maxsize=2)(images_on_gpu)
    return lambda arguments: None


def images_on_gpu(arguments: DataArguments) -> Any:
    """A benchmark's decoded images on the GPU, for all workers there; (None,) where they do not fit.

    What is sent to workers is where they lie: this process has to keep them.
    """
    # Teaches pickle to send where a tensor lies instead of what it holds.
    import torch.multiprocessing  # noqa: F401

    from dg_batchformer.data.benchmarks import load_dataset
    from dg_batchformer.data.resident import resident_images

    return (resident_images(load_dataset(**dict(arguments)), "cuda"),)


class Worker:
    """A process that runs jobs, seen from the launcher."""

    def __init__(self, threads: int, share: Share) -> None:
        self.threads, self.share = threads, share
        self.job: Job | None = None
        self.started = 0.0
        self._start()

    def _start(self) -> None:
        context = start_method()
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, self.threads), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def handles(self) -> list[Any]:
        return [self.connection, self.process.sentinel]

    def give(self, waiting: deque[Waiting]) -> None:
        """Sends the next job, if there is one."""
        if waiting:
            self.job, lost_claim = waiting.popleft()
            if not self.process.is_alive():
                self._start()
            self.started = time.monotonic()
            self.connection.send((self.job, lost_claim))
            self._send_shared(self.share(tuple(data_arguments(self.job.arguments).items())))

    def _send_shared(self, shared: Any) -> None:
        try:
            self.connection.send(shared)
        except RuntimeError:  # a GPU whose memory processes cannot share
            self.connection.send(None)

    def collect(self) -> Ended:
        """How the present job ended, after which there is none."""
        assert self.job is not None  # the launcher waits for busy workers only
        ended = self._ended(self.job)
        self.job = None
        return ended

    def _ended(self, job: Job) -> Ended:
        try:
            error = self.connection.recv()
            if error in (TAKEN, LEFT):
                return Ended(job, 0.0, None, elsewhere=True)
        except (EOFError, ConnectionResetError):
            self.process.join()
            error = f"its process ended with code {self.process.exitcode} (out of memory, or killed?)"
            records.mark(job.folder / records.FAILED, f"{error}\n")
            with (job.folder / records.ERR).open("a", encoding="utf-8") as file:
                file.write(f"{error}\n")
        return Ended(job, time.monotonic() - self.started, error)

    def stop(self) -> None:
        """Asks it to save what it runs and leave, and after a while does not ask."""
        self.process.terminate()
        self.process.join(LEAVE_SECONDS)
        self.process.kill()
        self.process.join()
        self.connection.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def received(connection: Connection) -> Any:
    """What the launcher shares; None where this process cannot open it."""
    try:
        return connection.recv()
    except RuntimeError:
        return None


def _serve(connection: Connection, threads: int) -> None:
    """Runs the jobs that come in, keeping the last dataset loaded; answers None, or the error, for each."""
    # Ctrl-C goes to the launcher, which stops its workers; however else it ends, they end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What these workers are forked from ignores it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    from dg_batchformer.training.interrupt import Interrupted, LostError
    from dg_batchformer.training.parts import load_data
    from dg_batchformer.training.run import FinishedError, run

    torch.set_num_threads(threads)
    loaded: tuple[Any, Any] = (None, None)
    while True:
        job: Job
        try:
            job, lost_claim = connection.recv()
            shared = received(connection)
        except EOFError:
            return
        try:
            key = data_arguments(job.arguments)
            if loaded[0] != key:
                loaded = (key, load_data(job.arguments, threads, shared))
            run(job.arguments, loaded[1], echo=False, lost_claim=lost_claim)
            connection.send(None)
        except Interrupted:
            connection.send(LEFT)
            return
        except (FinishedError, LostError, TakenError):
            connection.send(TAKEN)
        except Exception as error:
            if not (job.folder / records.FAILED).exists():
                records.mark(job.folder / records.FAILED, f"{type(error).__name__}: {error}\n")
                (job.folder / records.ERR).write_text(traceback.format_exc(), encoding="utf-8")
            connection.send(f"{type(error).__name__}: {error}")
