"""How far a sweep is: counts, the last lines of errors, and the time it will take."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dg_batchformer.jobs.plan import Job
from dg_batchformer.training import records
from dg_batchformer.training.claim import latest, owner_of

ERROR_LINES = 3


def counts(jobs: Sequence[Job]) -> dict[str, int]:
    """Runs by state, in the order of `records.STATES`."""
    found = Counter(job.state for job in jobs)
    return {state: found[state] for state in records.STATES}


def summary(jobs: Sequence[Job]) -> str:
    """One line: "48 runs: 12 done, 1 failed, 0 incomplete, 35 not launched"."""
    return f"{len(jobs)} runs: " + ", ".join(f"{n} {state}" for state, n in counts(jobs).items())


def report(jobs: Sequence[Job]) -> str:
    """The summary, a line per dataset and algorithm, and the last lines of what did not finish.

    Of a failed run those of its error, of one that runs or was interrupted those of its output.
    """
    lines = [summary(jobs)]
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.arguments.dataset, job.arguments.algorithm), []).append(job)
    for (dataset, algorithm), group in groups.items():
        listed = ", ".join(f"{n} {state}" for state, n in counts(group).items() if n)
        lines.append(f"  {dataset} {algorithm}: {listed}")
    for job in jobs:
        log = {"failed": records.ERR, "incomplete": records.OUT}.get(job.state)
        if log:
            claim = latest(job.folder)
            owner = owner_of(claim) if claim and claim.suffix == ".json" else None
            lines.append(f"{job.state}: {job}" + (f", claimed by {owner}" if owner else ""))
            lines += [f"    {line}" for line in last_lines(job.folder / log)]
    return "\n".join(lines)


def last_lines(path: Path, n: int = ERROR_LINES) -> list[str]:
    """The last non-empty lines of a log."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip()][-n:]


def measured_seconds(jobs: Sequence[Job]) -> dict[str, float]:
    """Mean seconds of a finished run, by dataset."""
    seconds: dict[str, list[float]] = {}
    for job in jobs:
        if job.state == "done":
            last = last_lines(job.folder / records.RESULTS, 1)
            with contextlib.suppress(ValueError, KeyError, IndexError):
                taken = json.loads(last[0])["run_seconds"]
                seconds.setdefault(job.arguments.dataset, []).append(taken)
    return {dataset: sum(values) / len(values) for dataset, values in seconds.items()}


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=round(seconds)))
