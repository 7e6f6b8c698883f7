"""How each run of a sweep stands: what its folder's marks, claim and live figures say at one look."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dg_batchformer.jobs.plan import Job
from dg_batchformer.runs import live, records
from dg_batchformer.runs.claim import LEASE_SECONDS, Owner, Watch, latest, owner_of
from dg_batchformer.runs.live import Live

STATES = ("done", "failed", "running", "abandoned", "waiting")


@dataclass(frozen=True)
class Standing:
    """How a run stands.

    done and failed are marked in its folder. It is running while the process that has claimed it shows signs of life,
    and abandoned when that process is gone without a word: the next launcher takes it over. Else it is waiting: never
    begun, or left in order to go on later, which `begun` tells apart. `owner` and `silent_seconds`, since its last sign
    of life, are those of a run that is running or abandoned, and `errors` the last lines of a failed one.
    """

    job: Job
    state: str
    begun: bool = True
    owner: Owner | None = None
    silent_seconds: float | None = None
    live: Live | None = None
    errors: Sequence[str] = ()


def standing(job: Job, watch: Watch, now: float) -> Standing:
    """How a run stands, `now` being the time by this machine's clock."""
    folder = job.folder
    claim = latest(folder)
    silent = silent_seconds(claim, now) if claim and claim.suffix == ".json" else None
    owner = owner_of(claim) if claim and silent is not None else None
    lost = claim is not None and silent is not None and is_lost(claim, watch, silent)
    # The marks are read after the claim: a process leaves them before it gives its claim up.
    marked = job.state
    if marked == "done":
        return Standing(job, "done")
    if silent is not None and not lost:  # also where the last try of it has failed
        return Standing(job, "running", owner=owner, silent_seconds=silent, live=live.read(folder))
    if marked == "failed":
        return Standing(job, "failed", errors=error_lines(folder))
    if lost and claim is not None and claim.exists():  # else it was given up this very moment
        return Standing(job, "abandoned", owner=owner, silent_seconds=silent)
    return Standing(job, "waiting", begun=marked == "incomplete")


def is_lost(claim: Path, watch: Watch, silent: float) -> bool:
    """Whether the owner of a claim is gone, as far as a watch knows.

    Before it has seen the owner's signs of life come or stop, they are as old as this machine's clock has them.
    """
    return watch.is_lost(claim) or (silent > LEASE_SECONDS and not watch.is_alive(claim))


def silent_seconds(claim: Path, now: float) -> float | None:
    """Seconds since the last sign of life of a claim's owner; None where the claim has just gone."""
    try:
        # Its clock may be ahead of ours.
        return max(0.0, now - claim.stat().st_mtime)
    except FileNotFoundError:
        return None


def error_lines(folder: Path) -> list[str]:
    """The end of a failed run's error."""
    return records.last_lines(folder / records.ERR) or records.last_lines(folder / records.FAILED)


def look(jobs: Iterable[Job], watch: Watch | None = None) -> list[Standing]:
    """How runs stand now; a watch that has looked before knows better who is alive."""
    watch, now = watch or Watch(), time.time()
    return [standing(job, watch, now) for job in jobs]


def counts(standings: Iterable[Standing]) -> dict[str, int]:
    """Runs by state, in the order of `STATES`."""
    found = Counter(one.state for one in standings)
    return {state: found[state] for state in STATES}


def summary(standings: Sequence[Standing]) -> str:
    """One line: "48 runs: 12 done, 1 failed, 3 running, 0 abandoned, 32 waiting"."""
    return f"{len(standings)} runs: " + ", ".join(f"{n} {state}" for state, n in counts(standings).items())
