"""How far a sweep is: its runs by state, how fast they end, and the time they will take."""

from __future__ import annotations

import datetime
import functools
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.states import Standing, counts, look
from dg_batchformer.runs import records
from dg_batchformer.runs.claim import Watch

HOUR = 3600.0


@dataclass(frozen=True)
class Finished:
    """A finished run: when it ended, by its folder's clock, and how many seconds it took."""

    dataset: str
    ended: float
    seconds: float


@dataclass(frozen=True)
class Status:
    """A sweep at one look; rates and times are None where they cannot be known."""

    standings: Sequence[Standing]
    runs_per_hour: float | None
    seconds_left: float | None

    @classmethod
    def of(cls, jobs: Iterable[Job], watch: Watch | None = None) -> Status:
        """How a sweep is now; a watch that has looked before knows better who is alive."""
        standings = look(jobs, watch)
        finished = finished_runs(one.job for one in standings if one.state == "done")
        return cls(
            standings,
            runs_per_hour([(one.ended, one.seconds) for one in finished], time.time()),
            seconds_left(runs_left(standings), finished, sum(one.state == "running" for one in standings)),
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return all(one.state in ("done", "failed") for one in self.standings)

    @property
    def groups(self) -> dict[tuple[str, str], dict[str, int]]:
        """Runs by state, for each dataset and algorithm."""
        found: dict[tuple[str, str], list[Standing]] = {}
        for one in self.standings:
            found.setdefault((one.job.arguments.dataset, one.job.arguments.algorithm), []).append(one)
        return {key: counts(standings) for key, standings in found.items()}


def finished_runs(jobs: Iterable[Job]) -> list[Finished]:
    """The runs of these that are done and say how long they took."""
    found = []
    for job in jobs:
        try:
            done = (job.folder / records.DONE).stat()
        except FileNotFoundError:
            continue
        seconds = run_seconds(job.folder / records.RESULTS, done.st_mtime_ns)
        if seconds is not None:
            found.append(Finished(job.arguments.dataset, done.st_mtime, seconds))
    return found


@functools.cache
def run_seconds(results: Path, done_ns: int) -> float | None:
    """What a run took by its last record, which is read once for each time at which the run was marked done."""
    try:
        (line,) = records.last_lines(results, 1)
        return float(json.loads(line)["run_seconds"])
    except (ValueError, KeyError, TypeError):
        return None


def runs_per_hour(ended: Sequence[tuple[float, float]], now: float) -> float | None:
    """The rate at which runs ended in the last hour, or since the first of them began if that is less.

    `ended` has when each run ended, and the seconds that it took.
    """
    recent = [(min(when, now), seconds) for when, seconds in ended if now - when <= HOUR]
    span = min(HOUR, now - min((when - seconds for when, seconds in recent), default=now))
    return len(recent) * HOUR / span if span > 0 else None


def runs_left(standings: Iterable[Standing]) -> dict[str, float]:
    """Runs that are left, by dataset; of one that is running, the share of its steps that is left."""
    left: dict[str, float] = {}
    for one in standings:
        if one.state in ("running", "abandoned", "waiting"):
            share = 1 - one.live.step / one.live.steps if one.live else 1.0
            left[one.job.arguments.dataset] = left.get(one.job.arguments.dataset, 0.0) + share
    return left


def seconds_left(left: Mapping[str, float], finished: Sequence[Finished], n_running: int) -> float | None:
    """Seconds until all runs have ended, so many at once; None while none has finished or none is running.

    A run takes as long as the mean of its dataset's finished ones, or of all where its dataset has none.
    """
    if not left:
        return 0.0
    if not finished or not n_running:
        return None
    mean = fmean(one.seconds for one in finished)
    means = mean_seconds(finished)
    return sum(n * means.get(dataset, mean) for dataset, n in left.items()) / n_running


def mean_seconds(finished: Iterable[Finished]) -> dict[str, float]:
    """Mean seconds of a finished run, by dataset."""
    seconds: dict[str, list[float]] = {}
    for one in finished:
        seconds.setdefault(one.dataset, []).append(one.seconds)
    return {dataset: fmean(values) for dataset, values in seconds.items()}


def measured_seconds(jobs: Iterable[Job]) -> dict[str, float]:
    """Mean seconds of a finished run of a sweep, by dataset."""
    return mean_seconds(finished_runs(jobs))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    if math.isnan(seconds):
        return "an unknown time"
    return str(datetime.timedelta(seconds=round(seconds)))


def as_json(status: Status) -> dict[str, Any]:
    """A status as plain values; times are seconds, `since` those of Unix time."""
    return {
        "counts": counts(status.standings),
        "runs_per_hour": status.runs_per_hour,
        "seconds_left": status.seconds_left,
        "groups": [
            {"dataset": dataset, "algorithm": algorithm, **found}
            for (dataset, algorithm), found in status.groups.items()
        ],
        "runs": [run_as_json(one) for one in status.standings],
    }


def run_as_json(one: Standing) -> dict[str, Any]:
    """How a run stands, as plain values; what is not known of it is None."""
    figures = ("step", "steps", "images_per_second", "gpu_gb", "seconds_left")
    return {
        "folder": one.job.folder.name,
        **{
            name: getattr(one.job.arguments, name)
            for name in ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")
        },
        "state": one.state,
        "begun": one.begun,
        "owner": one.owner and one.owner.name,
        "since": one.owner and one.owner.since,
        "seconds_since_sign_of_life": one.silent_seconds,
        **(asdict(one.live) if one.live else dict.fromkeys(figures)),
        "errors": list(one.errors),
    }
