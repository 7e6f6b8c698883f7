"""The status of a sweep: runs by state, rate, time left, and the errors of failed runs."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any, NamedTuple

from rich import box
from rich import live as rich_live
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dg_batchformer import machine
from dg_batchformer.errors import InputError
from dg_batchformer.jobs.plan import Job
from dg_batchformer.runs.claim import Watch
from dg_batchformer.runs.files import DONE
from dg_batchformer.runs.folder import Live, Standing, State, standings

HOUR = 3600.0
WATCH_SECONDS = 2.0
"""The interval of --watch."""
MAX_ERRORS = 10
"""The number of different errors that the picture shows."""
WIDTH = 10_000
"""The width of text: no limit, since a terminal wraps and a pipe must not cut."""
STYLES = {State.FAILED: "red", State.RUNNING: "green", State.ABANDONED: "yellow"}


class Finished(NamedTuple):
    """A finished run: when it ended by the clock of its folder, and its seconds."""

    dataset: str
    ended: float
    seconds: float


def finished_runs(jobs: Iterable[Job]) -> list[Finished]:
    """The finished runs with a recorded duration."""
    found = []
    for job in jobs:
        with contextlib.suppress(FileNotFoundError):  # such as a folder that was just deleted
            ended = (job.folder / DONE).stat().st_mtime
            if (seconds := job.folder.run_seconds()) is not None:
                found.append(Finished(job.arguments.dataset, ended, seconds))
    return found


def mean_seconds(finished: Iterable[Finished]) -> dict[str, float]:
    """Mean seconds of a finished run, by dataset."""
    seconds: dict[str, list[float]] = {}
    for one in finished:
        seconds.setdefault(one.dataset, []).append(one.seconds)
    return {dataset: fmean(values) for dataset, values in seconds.items()}


def runs_per_hour(finished: Iterable[Finished], now: float) -> float | None:
    """The rate of finished runs in the last hour, or since the first one began."""
    recent = [(min(one.ended, now), one.seconds) for one in finished if now - one.ended <= HOUR]
    span = min(HOUR, now - min((ended - seconds for ended, seconds in recent), default=now))
    return len(recent) * HOUR / span if span > 0 else None


def seconds_left(left: Mapping[str, float], finished: Sequence[Finished], n_running: int) -> float | None:
    """Seconds until all runs have ended, if `n_running` run at once; None while none has finished or none is running.

    The expected time of a run is the mean of the finished runs of its dataset, or of all if there are none.
    """
    if not left:
        return 0.0
    if not finished or not n_running:
        return None
    mean, means = fmean(one.seconds for one in finished), mean_seconds(finished)
    return sum(n * means.get(dataset, mean) for dataset, n in left.items()) / n_running


class Look(NamedTuple):
    """A run of a sweep and its state at one moment."""

    job: Job
    now: Standing


@machine.without_garbage_collection()
def look(jobs: Sequence[Job], watch: Watch | None = None) -> list[Look]:
    """The current states of runs; a watch that has looked before knows better who is alive."""
    return list(map(Look, jobs, standings([job.folder for job in jobs], watch)))


def runs_left(looks: Iterable[Look]) -> dict[str, float]:
    """Unfinished runs by dataset; a running one counts as the share of its remaining steps."""
    left: dict[str, float] = {}
    for job, now in looks:
        if now.state not in (State.DONE, State.FAILED):
            share = 1 - now.live.step / now.live.steps if now.live else 1.0
            left[job.arguments.dataset] = left.get(job.arguments.dataset, 0.0) + share
    return left


def counts(looks: Iterable[Look]) -> dict[State, int]:
    """Runs by state, in the order of `State`."""
    found = Counter(one.now.state for one in looks)
    return {state: found[state] for state in State}


def summary(looks: Sequence[Look]) -> str:
    """One line: "48 runs: 12 done, 1 failed, 3 running, 0 abandoned, 32 waiting"."""
    return f"{len(looks)} runs: " + ", ".join(f"{n} {state}" for state, n in counts(looks).items())


@dataclass(frozen=True)
class Status:
    """The status of a sweep at one moment; unknown rates and times are None."""

    looks: Sequence[Look]
    runs_per_hour: float | None
    seconds_left: float | None

    @classmethod
    def from_jobs(cls, jobs: Sequence[Job], watch: Watch | None = None) -> Status:
        """The current status of a sweep."""
        looks = look(jobs, watch)
        finished = finished_runs(one.job for one in looks if one.now.state is State.DONE)
        n_running = counts(looks)[State.RUNNING]
        return cls(looks, runs_per_hour(finished, time.time()), seconds_left(runs_left(looks), finished, n_running))

    @property
    def groups(self) -> dict[tuple[str, str], dict[State, int]]:
        """Runs by state, for each dataset and algorithm."""
        found: dict[tuple[str, str], list[Look]] = {}
        for one in self.looks:
            found.setdefault((one.job.arguments.dataset, one.job.arguments.algorithm), []).append(one)
        return {key: counts(looks) for key, looks in found.items()}

    def as_json(self) -> dict[str, Any]:
        """The status as plain values; times are in seconds, `since` is Unix time, and unknown values are None."""
        named = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")
        runs = [
            {
                "folder": job.folder.name,
                **{name: getattr(job.arguments, name) for name in named},
                "state": now.state,
                "begun": now.begun,
                "owner": now.owner and now.owner.name,
                "since": now.owner and now.owner.since,
                "seconds_since_sign_of_life": now.silent_seconds,
                **(asdict(now.live) if now.live else dict.fromkeys(one.name for one in fields(Live))),
                "errors": list(now.errors),
            }
            for job, now in self.looks
        ]
        return {
            "counts": counts(self.looks),
            "runs_per_hour": self.runs_per_hour,
            "seconds_left": self.seconds_left,
            "groups": [{"dataset": name[0], "algorithm": name[1], **found} for name, found in self.groups.items()],
            "runs": runs,
        }


def show(find: Callable[[], list[Job]], form: str, *, watch: bool) -> None:
    """Prints the status of the runs that `find` returns; with `watch` until all have ended, or Ctrl-C."""
    if watch and form == "json":
        raise InputError("--watch shows text: expected it without --format json, which is one object for one look")
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            follow(find)
    else:
        status = Status.from_jobs(find())
        print(json.dumps(status.as_json(), indent=1) if form == "json" else text(status))


def follow(find: Callable[[], list[Job]]) -> None:
    """Shows a series of statuses: in place in a terminal, else as text whenever the counts change."""
    console = plain_console(force_terminal=sys.stdout.isatty())
    in_place = console.is_terminal and not console.is_dumb_terminal
    watch, printed = Watch(), ""
    with rich_live.Live(console=console, auto_refresh=False) if in_place else contextlib.nullcontext() as shown:
        while True:
            status = Status.from_jobs(find(), watch)
            if shown:
                shown.update(picture(status), refresh=True)
            elif summary(status.looks) != printed:
                printed = summary(status.looks)
                print(text(status), end="\n\n", flush=True)
            if all(one.now.state in (State.DONE, State.FAILED) for one in status.looks):
                return
            time.sleep(WATCH_SECONDS)


def plain_console(**given: Any) -> Console:
    """A console that prints names as they are."""
    return Console(highlight=False, markup=False, emoji=False, **given)


def text(status: Status) -> str:
    """A status without colours."""
    file = io.StringIO()
    plain_console(file=file, width=WIDTH, color_system=None).print(picture(status))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).rstrip()


def picture(status: Status) -> Group:
    """The summary and the rates, then the tables of processes and of all runs, then the errors.

    The fastest changes come first, since a live picture higher than the terminal loses its end.
    """
    by_state = {state: [one for one in status.looks if one.now.state is state] for state in State}
    left = "-" if status.seconds_left is None else duration(status.seconds_left)
    parts: list[RenderableType] = [
        summary(status.looks),
        f"runs per hour: {number(status.runs_per_hour)}; time left: {left}",
    ]
    if begun := sum(one.now.begun for one in by_state[State.WAITING]):
        parts.append(f"waiting with a saved state, from which they will resume: {begun}")
    if owned := by_state[State.RUNNING] + by_state[State.ABANDONED]:
        parts += ["", owners(owned)]
    parts += ["", groups(status)]
    if failed := by_state[State.FAILED]:
        parts += ["", *errors(failed)]
    return Group(*parts)


def groups(status: Status) -> Table:
    """Runs by state, a row for each dataset and algorithm."""
    table = Table("Dataset", "Algorithm", box=box.SIMPLE_HEAD, show_edge=False)
    for state in State:
        table.add_column(state.capitalize(), justify="right", style=STYLES.get(state), no_wrap=True)
    table.add_column("% done", justify="right", no_wrap=True)
    for (dataset, algorithm), found in status.groups.items():
        percent = 100 * found[State.DONE] // sum(found.values())
        table.add_row(dataset, algorithm, *map(str, found.values()), str(percent))
    return table


def owners(looks: Sequence[Look]) -> Table:
    """The processes with their runs and progress."""
    table = Table("State", "Run", "Process", box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("Since", "Heartbeat", "Step", "Images/s", "GPU GB", "Left"):
        table.add_column(column, justify="right", no_wrap=True)
    for job, now in looks:
        live = now.live
        table.add_row(
            Text(now.state, STYLES[now.state]),
            job.name,
            now.owner.name if now.owner else "-",
            clock(now.owner.since) if now.owner else "-",
            f"{duration(now.silent_seconds or 0)} ago",
            f"{live.step}/{live.steps}" if live else "-",
            number(live.images_per_second if live else None),
            number(live.gpu_gb if live else None),
            duration(live.seconds_left) if live else "-",
        )
    return table


def errors(failed: Sequence[Look]) -> Iterator[Text]:
    """The last lines of failed runs; runs with the same last line are shown once."""
    kinds: dict[str, list[Look]] = {}
    for one in failed:
        kinds.setdefault("".join(one.now.errors[-1:]), []).append(one)
    shown = sorted(kinds.values(), key=len, reverse=True)
    for alike in shown[:MAX_ERRORS]:
        which = f"{alike[0].job}" if len(alike) == 1 else f"{len(alike)} runs, such as {alike[0].job}"
        yield Text.assemble(("failed", STYLES[State.FAILED]), f": {which}")
        # The output of libraries may have colours.
        yield from (Text.assemble("    ", Text.from_ansi(line)) for line in alike[0].now.errors)
    if rest := sum(map(len, shown[MAX_ERRORS:])):
        yield Text(f"{rest} more failed with other errors: --format json shows them")


def clock(when: float) -> str:
    """The time of day, with the date if it is not today."""
    then, today = time.localtime(when), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return "an unknown time" if math.isnan(seconds) else str(datetime.timedelta(seconds=round(seconds)))


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
