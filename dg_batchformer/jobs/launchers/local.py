"""The launchers `local` and `multi_gpu`, which run jobs in worker processes of this machine; and their queue."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dg_batchformer import machine
from dg_batchformer.data import is_small
from dg_batchformer.errors import InputError, but_for_space
from dg_batchformer.jobs.launchers import Launcher, option
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.status import duration
from dg_batchformer.jobs.workers import Place, Worker, sharing, stop
from dg_batchformer.runs.claim import Watch
from dg_batchformer.runs.folder import Failure
from dg_batchformer.training.process import Interrupted, handled

LOOK_SECONDS = 2.0
"""The interval between two looks at the runs of other launchers."""


@dataclass(frozen=True)
class Ended:
    """The end of an attempt at a run: `error` is None if it is done; with `again` the run is retried.

    `elsewhere`: another launcher ran it.
    """

    job: Job
    seconds: float
    error: str | None
    again: bool = False
    elsewhere: bool = False

    def __str__(self) -> str:
        outcome = f"{'done' if self.error is None else 'FAILED'}{' elsewhere' if self.elsewhere else ''}"
        if self.error is not None:
            outcome += f"{', will be retried' if self.again else ''}: {self.error}"
        return f"{self.job} {outcome} in {self.seconds:.1f} s"


Report = Callable[[Ended], None]


@dataclass
class Entry:
    """A run in the queue of one launcher.

    `failure` is the known marked failure; `lost_claim` is the name of a claim whose owner is dead, or "".
    """

    job: Job
    failure: Failure
    lost_claim: str = ""
    n_tries: int = 0


class Queue:
    """The unfinished runs of a launch: `waiting` here, or `elsewhere`, run by other launchers.

    `report` is called after each attempt. Without `wait` it ends when only runs of other launchers are left and these
    all have a heartbeat.
    """

    def __init__(self, jobs: Sequence[Job], launcher: Launcher, report: Report, *, wait: bool = True) -> None:
        self.launcher, self.report, self.wait = launcher, report, wait
        self.waiting = deque(Entry(job, job.folder.failure()) for job in jobs)
        self.elsewhere: list[Entry] = []
        self.watch = Watch()
        self.closed = False

    @property
    def is_open(self) -> bool:
        """Whether a run may still start here."""
        if self.closed:
            return False
        if self.waiting or self.wait:
            return bool(self.waiting or self.elsewhere)
        return not all(self.watch.is_alive(entry.job.folder.latest_claim()) for entry in self.elsewhere)

    def next(self) -> Entry | None:
        """The next run that no process runs."""
        while self.waiting and not self.closed:
            entry = self.waiting.popleft()
            if self._is_free(entry):
                return entry
        return None

    def look(self) -> None:
        """Updates the runs of other launchers: some may have ended or lost their owner."""
        entries, self.elsewhere = self.elsewhere, []
        self.waiting += [entry for entry in entries if self._is_free(entry)]

    def ended(
        self, entry: Entry, seconds: float, error: str | None, *, may_pass: bool, elsewhere: bool = False
    ) -> None:
        """Reports an attempt at a run, and puts the run back if it will be retried."""
        entry.n_tries += 1
        again = error is not None and may_pass and entry.n_tries <= self.launcher.retries and not self.closed
        self.report(Ended(entry.job, seconds, error, again=again, elsewhere=elsewhere))
        if again:
            entry.failure = entry.job.folder.failure()
            self.waiting.append(entry)
        elif error is not None and not self.launcher.keep_going:
            self.closed = True
            self.waiting.clear()

    def _is_free(self, entry: Entry) -> bool:
        """Whether no process runs a run; reports a run that ended elsewhere, and sets aside one that runs elsewhere."""
        folder, claim = entry.job.folder, None
        done, failure = folder.is_done, folder.failure()
        if done or failure.mark not in ("", entry.failure.mark):
            self.ended(entry, 0.0, None if done else failure.reason, may_pass=True, elsewhere=True)
            return False
        try:
            claim = folder.latest_claim()
            free = self.watch.is_free(claim)
        except OSError:  # a shared folder may be unreachable for a while
            free = False
        if not free:
            self.elsewhere.append(entry)
        entry.lost_claim = claim.name if claim else ""
        return free and not self.closed


@dataclass(frozen=True)
class Workers(Launcher):
    """Worker processes, one at each place."""

    def places(self, jobs: Sequence[Job]) -> list[Place]:
        """The places of the workers; InputError if this machine does not have them."""
        raise NotImplementedError

    def check(self, jobs: Sequence[Job]) -> int | None:
        return len(self.places(jobs))

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs jobs; prints a line after each attempt, and the time left."""
        places = self.places(jobs)
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
        with Progress(*columns, console=Console(soft_wrap=True)) as progress:
            task = progress.add_task("", total=len(jobs), left="")
            seconds: list[float] = []

            def report(ended: Ended) -> None:
                seconds.append(ended.seconds)
                progress.advance(task, 0 if ended.again else 1)
                n_ended = round(progress.tasks[0].completed)
                left = f"{duration(fmean(seconds) * (len(jobs) - n_ended) / len(places))} left"
                progress.update(task, left=left)
                with but_for_space():
                    line = f"[{n_ended}/{len(jobs)}] {ended}; {left}"
                    progress.console.print(line, markup=False, highlight=False)

            run_at(places, jobs, self, report)


def n_workers_option() -> Any:
    """The option of launchers with a variable number of workers."""
    return option("processes of the local launcher; default by cores and image size", None, type=int)


@dataclass(frozen=True)
class Local(Workers):
    """Workers on the CPU: one for each core with small inputs, one for four cores with large ones.

    With a GPU they share the first one, `jobs_per_gpu` at once.
    """

    n_workers: int | None = n_workers_option()
    name = "local"

    def places(self, jobs: Sequence[Job]) -> list[Place]:
        if machine.device() == "cuda":
            return [0] * min(self.n_workers or self.jobs_per_gpu, len(jobs))
        small = all(
            is_small(job.arguments.dataset) or job.arguments.given_hparams().get("freeze_backbone") for job in jobs
        )
        usual = max(1, machine.available_cores() // (1 if small else 4))
        return [None] * min(self.n_workers or usual, len(jobs))


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of "0,2"."""
    return tuple(int(part) for part in text.split(","))


@dataclass(frozen=True)
class MultiGpu(Workers):
    """Workers on the GPUs of this machine: `jobs_per_gpu` on each of `gpus` (default: all)."""

    gpus: tuple[int, ...] | None = option(
        "GPUs of the multi_gpu launcher, such as 0,2 (default: all)", None, type=numbers
    )
    name = "multi_gpu"

    def places(self, jobs: Sequence[Job]) -> list[Place]:
        present = range(machine.gpu_count())
        if not present:
            raise InputError("multi_gpu finds no GPU here: expected at least one, or --command_launcher local")
        gpus: list[Place] = list(present if self.gpus is None else self.gpus)
        if not gpus or not set(gpus) <= set(present) or len(set(gpus)) < len(gpus):
            given = ",".join(map(str, gpus))
            raise InputError(f"--gpus is {given!r}: expected one or more of {', '.join(map(str, present))}, each once")
        return (gpus * self.jobs_per_gpu)[: len(jobs)]


def run_at(
    places: Sequence[Place], jobs: Sequence[Job], launcher: Launcher, report: Report, *, wait_for_others: bool = True
) -> None:
    """Runs jobs in a worker process for each place, each with its share of the cores.

    A worker runs one job after another without a new interpreter. If a worker dies (killed, out of memory), its run is
    marked failed and a new worker replaces it. `report` is called after each attempt. Several workers on a GPU share
    one copy of the decoded images. The runs of other launchers stay with them, and are taken over if those die.
    SIGTERM, SIGUSR1, SIGUSR2, SIGHUP and Ctrl-C make the workers save their runs and exit.
    """
    queue = Queue(jobs, launcher, report, wait=wait_for_others)
    share, threads = sharing(places), machine.threads_of_each(len(places))
    workers: list[Worker] = []
    running: dict[Worker, Entry] = {}
    asked: list[str] = []

    def leave(name: str) -> None:
        asked.append(name)
        if len(asked) == 1:  # once: a second signal must not interrupt the end of the workers
            raise Interrupted(name)

    with handled(("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP"), leave):
        try:
            for place in places:
                workers.append(Worker(threads, share, place))
            while queue.is_open or running:
                for worker in workers:
                    if worker not in running and (entry := queue.next()):
                        worker.give(entry.job, entry.lost_claim)
                        running[worker] = entry
                wait_for_end(queue, running, launcher.timeout)
                queue.look()
        finally:
            stop(workers)


def wait_for_end(queue: Queue, running: dict[Worker, Entry], timeout: float | None) -> None:
    """Waits until a run ends, or until the next look at timeouts and at runs elsewhere."""
    if not running and not queue.elsewhere:
        return  # the last runs have just ended elsewhere
    # A connection closes when its process ends.
    ready = wait([worker.connection for worker in running], LOOK_SECONDS if queue.elsewhere or timeout else None)
    for worker, entry in list(running.items()):
        if worker.connection in ready:
            del running[worker]
            answer = worker.answer(entry.job)
            if answer.taken:
                queue.elsewhere.append(entry)
            else:
                queue.ended(entry, worker.seconds, answer.error, may_pass=answer.may_pass)
        elif timeout and worker.seconds > 60 * timeout:
            worker.leave(f"took longer than --timeout ({timeout:g} minutes); a retry resumes from there")
