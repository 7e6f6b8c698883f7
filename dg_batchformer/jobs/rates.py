"""How fast the runs of a sweep end, and the time that the others will take."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from dg_batchformer.jobs.plan import Job
from dg_batchformer.runs.files import DONE

HOUR = 3600.0


class Finished(NamedTuple):
    """A finished run: when it ended, by its folder's clock, and how many seconds it took."""

    dataset: str
    ended: float
    seconds: float


def finished_runs(jobs: Iterable[Job]) -> list[Finished]:
    """The runs of these that are done and say how long they took."""
    found = []
    for job in jobs:
        with contextlib.suppress(FileNotFoundError):
            ended = (job.folder / DONE).stat().st_mtime
            if (seconds := job.folder.run_seconds()) is not None:
                found.append(Finished(job.arguments.dataset, ended, seconds))
    return found


def runs_per_hour(ended: Sequence[tuple[float, float]], now: float) -> float | None:
    """The rate at which runs ended in the last hour, or since the first of them began if that is less.

    `ended` has when each run ended, and the seconds that it took.
    """
    recent = [(min(when, now), seconds) for when, seconds in ended if now - when <= HOUR]
    span = min(HOUR, now - min((when - seconds for when, seconds in recent), default=now))
    return len(recent) * HOUR / span if span > 0 else None


def seconds_left(left: Mapping[str, float], finished: Sequence[Finished], n_running: int) -> float | None:
    """Seconds until all runs have ended, so many at once; None while none has finished or none is running.

    A run takes as long as the mean of its dataset's finished ones, or of all where its dataset has none.
    """
    if not left:
        return 0.0
    if not finished or not n_running:
        return None
    mean, means = fmean(one.seconds for one in finished), mean_seconds(finished)
    return sum(n * means.get(dataset, mean) for dataset, n in left.items()) / n_running


def mean_seconds(finished: Iterable[Finished]) -> dict[str, float]:
    """Mean seconds of a finished run, by dataset."""
    seconds: dict[str, list[float]] = {}
    for one in finished:
        seconds.setdefault(one.dataset, []).append(one.seconds)
    return {dataset: fmean(values) for dataset, values in seconds.items()}


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    if math.isnan(seconds):
        return "an unknown time"
    return str(datetime.timedelta(seconds=round(seconds)))
