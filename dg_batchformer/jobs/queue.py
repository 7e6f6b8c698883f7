"""Which run is next: what nobody has, what another launcher has, and what failed and is tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Job
from dg_batchformer.runs import failures
from dg_batchformer.runs.claim import Watch, latest

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

    def __str__(self) -> str:
        return f"{self.job} {self.outcome} in {self.seconds:.1f} s"


Report = Callable[[Ended], None]


@dataclass
class Entry:
    """A run in the queue of one launcher.

    `lost_claim` is the name of the claim on it that nobody has any more, if there is one, and `failure` the mark of a
    failure that is known already, "" for none.
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
        self.waiting = deque(Entry(job, failures.read_mark(job.folder)[0]) for job in jobs)
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
        return not all(self.watch.is_alive(latest(entry.job.folder)) for entry in self.elsewhere)

    def next(self) -> Entry | None:
        """The next run that nobody has."""
        while self.waiting and not self.closed:
            entry = self.waiting.popleft()
            if self._is_free(entry):
                return entry
        return None

    def taken(self, entry: Entry) -> None:
        """Notes that another process has a run, which was given out a moment ago."""
        self.elsewhere.append(entry)

    def look(self) -> None:
        """Looks at the runs of other launchers: which have ended, and which nobody has any more."""
        entries, self.elsewhere = self.elsewhere, []
        self.waiting += [entry for entry in entries if self._is_free(entry)]

    def ended(
        self, entry: Entry, seconds: float, error: str | None, *, may_pass: bool, elsewhere: bool = False
    ) -> None:
        """Reports a run that was tried, and puts it back if it failed and is to be tried again."""
        entry.n_tries += 1
        again = error is not None and may_pass and entry.n_tries <= self.options.retries and not self.closed
        self.report(Ended(entry.job, seconds, error, again=again, elsewhere=elsewhere))
        if again:
            entry.failure = failures.read_mark(entry.job.folder)[0]
            self.waiting.append(entry)
        elif error is not None and not self.options.keep_going:
            self.closed = True
            self.waiting.clear()

    def _is_free(self, entry: Entry) -> bool:
        """Whether nobody has a run; reports one that another launcher has ended, and puts by one that it has."""
        standing, reason = self._standing(entry)
        if standing == "taken":
            self.elsewhere.append(entry)
        elif standing != "free":
            self.ended(entry, 0.0, reason, may_pass=True, elsewhere=True)
        return standing == "free" and not self.closed

    def _standing(self, entry: Entry) -> tuple[str, str | None]:
        """How a run stands by now: "done", "failed" and why, "taken" or "free"."""
        folder = entry.job.folder
        try:
            if entry.job.state == "done":
                return "done", None
            failure, reason = failures.read_mark(folder)
            if failure not in ("", entry.failure):
                return "failed", reason
            claim = latest(folder)
            if self.watch.is_free(claim):
                entry.lost_claim = claim.name if claim else ""
                return "free", None
        except OSError:  # a shared folder may be away for a while
            pass
        return "taken", None
