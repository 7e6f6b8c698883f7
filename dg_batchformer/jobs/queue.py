"""Which run is next: what nobody has, what another launcher has, and what failed and is tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Job
from dg_batchformer.training import failures, records
from dg_batchformer.training.claim import Watch, latest

LOOK_SECONDS = 2.0
"""Between two looks at the runs that other launchers have."""


@dataclass(frozen=True)
class Ended:
    """How a try of a run ended: `error` is None where it is done, and with `again` the run is tried again.

    `elsewhere`: by another launcher, which had it at the time.
    """

    job: Job
    seconds: float
    error: str | None
    again: bool = False
    elsewhere: bool = False

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        place = " elsewhere" if self.elsewhere else ""
        if self.error is None:
            return f"done{place}"
        return f"FAILED{place}{' and goes back into the queue' if self.again else ''}: {self.error}"


Report = Callable[[Ended], None]


@dataclass
class Task:
    """A run in the queue of one launcher.

    `lost_claim` is the name of the claim on it that was found lost, and `failure` the mark of a failure that is known
    already, "" for none.
    """

    job: Job
    failure: str
    lost_claim: str = ""
    n_tries: int = 0


class Queue:
    """The runs of one launch that have not ended; `report` is called at the end of each try.

    Without `wait` it ends when nothing is left but what other launchers have, who have all shown signs of life.
    """

    def __init__(self, jobs: Sequence[Job], options: Options, report: Report, *, wait: bool = True) -> None:
        self.options, self.report, self.wait = options, report, wait
        self.waiting = deque(Task(job, failures.mark_of(job.folder)) for job in jobs)
        self.elsewhere: deque[Task] = deque()
        self.watch = Watch()

    @property
    def is_open(self) -> bool:
        """Whether a run may still begin here."""
        if self.waiting or self.wait:
            return bool(self.waiting or self.elsewhere)
        return not all(self.watch.is_alive(task.job.folder) for task in self.elsewhere)

    def next(self) -> Task | None:
        """The next run that nobody has."""
        while self.waiting:
            task = self.waiting.popleft()
            if not self._ended_elsewhere(task):
                if task.lost_claim or self.watch.is_free(task.job.folder):
                    return task
                self.elsewhere.append(task)
        return None

    def taken(self, task: Task) -> None:
        """Notes that another process has a run, which was given out a moment ago."""
        task.lost_claim = ""
        self.elsewhere.append(task)

    def look(self) -> None:
        """Looks at the runs of other launchers: which have ended, and which nobody has any more."""
        for _ in range(len(self.elsewhere)):
            task = self.elsewhere.popleft()
            if self._ended_elsewhere(task):
                continue
            if self.watch.is_free(task.job.folder):
                claim = latest(task.job.folder)
                task.lost_claim = claim.name if claim else ""
                self.waiting.append(task)
            else:
                self.elsewhere.append(task)

    def ended(self, task: Task, seconds: float, error: str | None, *, may_pass: bool, elsewhere: bool = False) -> None:
        """Reports a run that was tried, and puts it back if it failed and is to be tried again."""
        task.n_tries, task.lost_claim = task.n_tries + 1, ""
        again = error is not None and may_pass and task.n_tries <= self.options.retries
        self.report(Ended(task.job, seconds, error, again=again, elsewhere=elsewhere))
        if again:
            task.failure = failures.mark_of(task.job.folder)
            self.waiting.append(task)
        elif error is not None and not self.options.keep_going:
            self.waiting.clear()
            self.elsewhere.clear()

    def _ended_elsewhere(self, task: Task) -> bool:
        """Whether another launcher has ended a run since this one looked last."""
        folder = task.job.folder
        state = records.state_of(folder)
        failure = failures.mark_of(folder)
        if state == "done":
            self.ended(task, 0.0, None, may_pass=False, elsewhere=True)
        elif failure and failure != task.failure:
            reason = (folder / records.FAILED).read_text(encoding="utf-8", errors="replace").strip()
            self.ended(task, 0.0, reason, may_pass=True, elsewhere=True)
        else:
            return False
        return True
