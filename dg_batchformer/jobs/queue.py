"""Which run is next: one that nobody runs, or that failed and is to be retried."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dg_batchformer.jobs.launchers import Launcher
from dg_batchformer.jobs.plan import Job
from dg_batchformer.runs.claim import Watch
from dg_batchformer.runs.folder import Failure

LOOK_SECONDS = 2.0
"""Between two looks at the runs that other launchers run."""


@dataclass(frozen=True)
class Ended:
    """How a try of a run ended: `error` is None where it is done, and with `again` the run is retried.

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
            outcome += f"{' and goes back into the queue' if self.again else ''}: {self.error}"
        return f"{self.job} {outcome} in {self.seconds:.1f} s"


Report = Callable[[Ended], None]


@dataclass
class Entry:
    """A run in the queue of one launcher.

    `failure` is the marked failure that is known already; `lost_claim` the name of a claim whose owner is dead, or "".
    """

    job: Job
    failure: Failure
    lost_claim: str = ""
    n_tries: int = 0


class Queue:
    """The runs of one launch that have not ended: `waiting` here, or `elsewhere`, where another launcher runs them.

    `report` is called at the end of each try. Without `wait` it ends when only runs of other launchers are left, and
    these have all shown signs of life.
    """

    def __init__(self, jobs: Sequence[Job], launcher: Launcher, report: Report, *, wait: bool = True) -> None:
        self.launcher, self.report, self.wait = launcher, report, wait
        self.waiting = deque(Entry(job, job.folder.failure()) for job in jobs)
        self.elsewhere: list[Entry] = []
        self.watch = Watch()
        self.closed = False

    @property
    def is_open(self) -> bool:
        """Whether a run may still begin here."""
        if self.closed:
            return False
        if self.waiting or self.wait:
            return bool(self.waiting or self.elsewhere)
        return not all(self.watch.is_alive(entry.job.folder.latest_claim()) for entry in self.elsewhere)

    def next(self) -> Entry | None:
        """The next run that nobody runs."""
        while self.waiting and not self.closed:
            entry = self.waiting.popleft()
            if self._is_free(entry):
                return entry
        return None

    def look(self) -> None:
        """Looks at the runs of other launchers: which have ended, and whose owner is dead."""
        entries, self.elsewhere = self.elsewhere, []
        self.waiting += [entry for entry in entries if self._is_free(entry)]

    def ended(
        self, entry: Entry, seconds: float, error: str | None, *, may_pass: bool, elsewhere: bool = False
    ) -> None:
        """Reports a try of a run, and puts the run back if it failed and is to be retried."""
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
        """Whether nobody runs a run; reports one that another launcher has ended, and sets aside one that it runs."""
        folder, claim = entry.job.folder, None
        done, failure = folder.is_done, folder.failure()
        if done or failure.mark not in ("", entry.failure.mark):
            self.ended(entry, 0.0, None if done else failure.reason, may_pass=True, elsewhere=True)
            return False
        try:
            claim = folder.latest_claim()
            free = self.watch.is_free(claim)
        except OSError:  # a shared folder may be away for a while
            free = False
        if not free:
            self.elsewhere.append(entry)
        entry.lost_claim = claim.name if claim else ""
        return free and not self.closed
