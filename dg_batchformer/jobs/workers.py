"""Worker processes, which run one job after another, and the data that they share."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from dg_batchformer.errors import details, may_pass, sentence
from dg_batchformer.jobs.folder import check_data
from dg_batchformer.jobs.plan import Job
from dg_batchformer.runs.arguments import DataArguments
from dg_batchformer.runs.claim import LostError, TakenError

LEAVE_SECONDS = 60
"""The time for a stopped worker to finish a step and save its state."""


@dataclass(frozen=True)
class Answer:
    """The end of a run: `error` is None if it is done.

    `may_pass`: a retry could succeed; `taken`: another process has the run; `left`: the worker was stopped on request.
    """

    error: str | None = None
    may_pass: bool = True
    taken: bool = False
    left: bool = False


Place = int | None
"""The GPU of a worker; None for the CPU."""

Share = Callable[[DataArguments, Place], Any]
"""Returns the data of a dataset that all workers of a place share."""

PRELOADED = ["dg_batchformer.cli", "dg_batchformer.training.trainer", "torch._dynamo"]
"""Modules that workers need; the last takes a second, and torch's optimizers import it at their first step."""

OF_THE_LAUNCHER = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
"""Signals that the fork server ignores."""


@functools.cache
def start_method() -> Any:
    """How workers start: as forks of a server that has imported their modules, else each with its own imports."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def warm_up() -> None:
    """Starts the fork server, so that it imports modules while this process prepares."""
    if start_method().get_start_method() == "forkserver":
        # It inherits the ignored signals: Ctrl-C and SLURM's signals, which go to all processes of a job.
        in_main = threading.current_thread() is threading.main_thread()
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_LAUNCHER)
        try:
            resource_tracker.ensure_running()  # which unblocks them
            signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_LAUNCHER)
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if in_main:
                signal.signal(signal.SIGINT, interrupt)


def sharing(places: Sequence[Place]) -> Share:
    """The data that workers share: decoded images on a common GPU; CPU workers map the same file anyway."""
    crowded = {place for place in places if place is not None and places.count(place) > 1}
    # Runs come dataset by dataset: at most two are in use, at a change of dataset.
    keep = functools.lru_cache(maxsize=2 * len(crowded))(images_on_gpu)
    return lambda arguments, place: keep(arguments, place) if place in crowded else None


def images_on_gpu(arguments: DataArguments, gpu: int) -> Any:
    """The decoded images of a benchmark on a GPU, for all its workers; (None,) if they do not fit.

    Workers get the location only: this process must keep the images.
    """
    # Makes pickle send the location of a tensor instead of its content.
    import torch.multiprocessing

    from dg_batchformer.data import load_dataset
    from dg_batchformer.data.resident import resident_images

    with torch.cuda.device(gpu):
        return (resident_images(load_dataset(**arguments._asdict()), "cuda"),)


class Worker:
    """A process that runs jobs at a place, seen from the launcher."""

    def __init__(self, threads: int, share: Share, place: Place) -> None:
        self.threads, self.share, self.place = threads, share, place
        self.started = 0.0
        self.told_to_leave: float | None = None
        self.reason = ""
        self._start()

    def _start(self) -> None:
        warm_up()  # starts the fork server again if it has died
        context = start_method()
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=serve, args=(theirs, self.threads, self.place), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def seconds(self) -> float:
        """Seconds since the start of the current job."""
        return time.monotonic() - self.started

    def give(self, job: Job, lost_claim: str) -> None:
        """Sends a job, with the name of its lost claim, if any."""
        self.told_to_leave, self.reason = None, ""
        if not self.process.is_alive():
            self._start()
        self.started = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has died: `answer` reports that
            self.connection.send((job, lost_claim))
            try:
                self.connection.send(self.share(job.arguments.data, self.place))
            except Exception:  # such as a full GPU, or memory that cannot be shared: the worker loads its own copy
                self.connection.send(None)

    def answer(self, job: Job) -> Answer:
        """The end of the worker's job."""
        try:
            answer: Answer = self.connection.recv()
            error = self.reason if answer.left else ""
        except (EOFError, ConnectionResetError):
            self.process.join()
            error = self.reason or death(self.process.exitcode)
        if error:
            answer = Answer(error)
            mark_unless_taken(job, error)
        if answer.error is not None or self.reason:
            # The next run must not inherit the memory or the GPU state of a failed one.
            self.process.kill()
            self.process.join()
        return answer

    def leave(self, reason: str) -> None:
        """Asks the worker to save its run and exit, which fails the run with this reason; kills it if necessary."""
        now = time.monotonic()
        if self.told_to_leave is None:
            self.told_to_leave, self.reason = now, reason
            self.process.terminate()
        elif now - self.told_to_leave > LEAVE_SECONDS:
            self.process.kill()


def death(code: int | None) -> str:
    """The end of a process according to its exit code."""
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL; the kernel also sends it when memory runs out)"
    return f"its process ended with code {code}"


def mark_unless_taken(job: Job, reason: str, details: str = "") -> None:
    """Marks a run as failed, unless another launcher runs or has ended it meanwhile."""
    with contextlib.suppress(OSError):  # an unreachable folder cannot be marked
        if not job.folder.is_done and job.folder.can_be_claimed:
            job.folder.mark_failed(reason, details)


def stop(workers: Sequence[Worker]) -> None:
    """Asks workers to save their runs and exit; kills those that do not."""
    for worker in workers:
        worker.process.terminate()
        worker.connection.close()  # else a worker whose run has just ended would wait for another one
    deadline = time.monotonic() + LEAVE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()


def end_with_parent() -> None:
    """Makes this worker exit some time after the launcher has died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LEAVE_SECONDS)
        os._exit(1)


def serve(connection: Connection, threads: int, place: Place) -> None:
    """Runs incoming jobs and answers each; keeps the last dataset loaded."""
    # Ctrl-C goes to the launcher, which stops its workers; they also end if it dies.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # The launcher asks with this signal; it was blocked until here.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=end_with_parent, daemon=True).start()
    import torch

    from dg_batchformer.training.process import Interrupted

    torch.set_num_threads(threads)
    if place is not None:
        torch.cuda.set_device(place)
    loaded: dict[DataArguments, Any] = {}
    while True:
        try:
            job, lost_claim = connection.recv()
            shared = connection.recv()
        except EOFError:
            return
        except RuntimeError:  # the shared data cannot be opened here: the run loads its own copy
            shared = None
        try:
            answer = answered(job, lost_claim, shared, loaded, threads)
        except Interrupted as error:
            answer = Answer(f"stopped by {error.signal_name}", left=True)
        with contextlib.suppress(OSError):  # the launcher has closed the connection
            connection.send(answer)


def answered(job: Job, lost_claim: str, shared: Any, loaded: dict[DataArguments, Any], threads: int) -> Answer:
    """Runs a job; `loaded` caches the last dataset by its arguments."""
    from dg_batchformer.training.setup import load_data
    from dg_batchformer.training.trainer import FinishedError, run

    earlier = job.folder.failure()
    try:
        key = job.arguments.data
        if key not in loaded:
            loaded.clear()
            loaded[key] = load_data(job.arguments, threads, shared)
        check_data(job.sweep_dir, job.arguments.dataset, loaded[key].fingerprint)
        run(job.arguments, loaded[key], echo=False, lost_claim=lost_claim)
        return Answer()
    except (FinishedError, LostError, TakenError):
        return Answer(taken=True)
    except Exception as error:
        if job.folder.failure() == earlier:
            mark_unless_taken(job, sentence(error), details(error))
        return Answer(sentence(error), may_pass(error))
