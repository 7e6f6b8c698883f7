"""Processes that run one job after another, and what they share."""

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
"""For a worker that is stopped: a step, and writing its state."""


@dataclass(frozen=True)
class Answer:
    """How a run ended: `error` is None where it is done.

    `may_pass` says whether another try could end differently, `taken` that another process has the run, and `left`
    that the worker was asked to leave, and has.
    """

    error: str | None = None
    may_pass: bool = True
    taken: bool = False
    left: bool = False


Place = int | None
"""The GPU of a worker; None where it computes on the CPU."""

Share = Callable[[DataArguments, Place], Any]
"""Gives what all workers of a place share of a dataset."""

PRELOADED = ["dg_batchformer.cli", "dg_batchformer.training.trainer", "torch._dynamo"]
"""What workers need; the last is a second's import, which torch's optimizers make at their first step."""

OF_THE_LAUNCHER = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
"""Signals that the process from which workers are forked ignores."""


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
        # It inherits that Ctrl-C is the launcher's, and SLURM's signals, which go to all processes of a job.
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
    """What workers share: decoded images on a GPU that several have; on CPUs they map the same file anyway."""
    crowded = {place for place in places if place is not None and places.count(place) > 1}
    # Runs come dataset by dataset: two at a time are in use at most, while one follows the other.
    keep = functools.lru_cache(maxsize=2 * len(crowded))(images_on_gpu)
    return lambda arguments, place: keep(arguments, place) if place in crowded else None


def images_on_gpu(arguments: DataArguments, gpu: int) -> Any:
    """A benchmark's decoded images on a GPU, for all workers there; (None,) where they do not fit.

    What is sent to workers is where they lie: this process has to keep them.
    """
    # Teaches pickle to send where a tensor lies instead of what it holds.
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
        warm_up()  # anew, if what workers are forked from has died
        context = start_method()
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=serve, args=(theirs, self.threads, self.place), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def seconds(self) -> float:
        """Since the present job began."""
        return time.monotonic() - self.started

    def give(self, job: Job, lost_claim: str) -> None:
        """Sends a job, with the name of the claim on it that was found lost, if one was."""
        self.told_to_leave, self.reason = None, ""
        if not self.process.is_alive():
            self._start()
        self.started = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has died, which `answer` finds
            self.connection.send((job, lost_claim))
            try:
                self.connection.send(self.share(job.arguments.data, self.place))
            except Exception:  # such as a GPU whose memory is full, or not to be shared: it loads them for itself
                self.connection.send(None)

    def answer(self, job: Job) -> Answer:
        """How the job that it was given ended."""
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
            # What a failed run leaves in memory, or a GPU that it has upset, is not passed on to the next one.
            self.process.kill()
            self.process.join()
        return answer

    def leave(self, reason: str) -> None:
        """Asks it to save its run and leave, for a reason that is the run's failure; kills it if it does not."""
        now = time.monotonic()
        if self.told_to_leave is None:
            self.told_to_leave, self.reason = now, reason
            self.process.terminate()
        elif now - self.told_to_leave > LEAVE_SECONDS:
            self.process.kill()


def death(code: int | None) -> str:
    """What the exit code of a process says of its end."""
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL, which is also how the kernel ends one when memory runs out)"
    return f"its process ended with code {code}"


def mark_unless_taken(job: Job, reason: str, details: str = "") -> None:
    """Marks a run as failed, unless another launcher runs it, or has ended it, by now."""
    with contextlib.suppress(OSError):  # a folder that cannot be looked at cannot be marked either
        if not job.folder.is_done and job.folder.can_be_claimed:
            job.folder.mark_failed(reason, details)


def stop(workers: Sequence[Worker]) -> None:
    """Asks workers to save what they run and leave; kills those that do not."""
    for worker in workers:
        worker.process.terminate()
        worker.connection.close()  # or one whose run has just ended would wait for another
    deadline = time.monotonic() + LEAVE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()


def end_with_parent() -> None:
    """Leaves as if asked to, some time after the launcher has died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LEAVE_SECONDS)
        os._exit(1)


def serve(connection: Connection, threads: int, place: Place) -> None:
    """Runs the jobs that come in, keeping the last dataset loaded, and answers each."""
    # Ctrl-C goes to the launcher, which stops its workers; however else it ends, they end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # The launcher's way to ask it to leave, from the start: until here it was blocked.
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
        except RuntimeError:  # what is shared cannot be opened here: the run loads it for itself
            shared = None
        try:
            answer = answered(job, lost_claim, shared, loaded, threads)
        except Interrupted as error:
            answer = Answer(f"left, asked by {error.signal_name}", left=True)
        with contextlib.suppress(OSError):  # the launcher has closed it, and `recv` says so
            connection.send(answer)


def answered(job: Job, lost_claim: str, shared: Any, loaded: dict[DataArguments, Any], threads: int) -> Answer:
    """Runs a job; `loaded` has the last dataset by its arguments."""
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
