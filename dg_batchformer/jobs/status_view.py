"""How far a sweep is, as a picture in a terminal, as text and as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dg_batchformer.errors import InputError
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.states import STATES, Standing, summary
from dg_batchformer.jobs.status import Status, as_json, duration
from dg_batchformer.runs.claim import Watch

WATCH_SECONDS = 2.0
"""Between two looks of --watch."""
MAX_ERRORS = 10
"""Of this many different errors the picture shows the lines."""
WIDTH = 10_000
"""Of text: as wide as it needs to be, for a terminal wraps, and a pipe must not cut."""

STYLES = {"failed": "red", "running": "green", "abandoned": "yellow"}


def show(find: Callable[[], list[Job]], form: str, *, watch: bool) -> None:
    """Prints how far the runs are that `find` finds; with `watch`, until nothing is left to run or Ctrl-C."""
    if watch and form == "json":
        raise InputError("--watch shows text: expected it without --format json, which is one object for one look")
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            follow(find)
    elif form == "json":
        print(json.dumps(as_json(Status.of(find())), indent=1))
    else:
        print(text(Status.of(find())))


def follow(find: Callable[[], list[Job]]) -> None:
    """Shows one status after another: in place in a terminal, else as text whenever the counts have changed."""
    console = plain_console(force_terminal=sys.stdout.isatty())
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, auto_refresh=False) as shown:
            for status in looks(find):
                shown.update(picture(status), refresh=True)
        return
    printed = ""
    for status in looks(find):
        if summary(status.standings) != printed:
            printed = summary(status.standings)
            print(text(status), end="\n\n", flush=True)


def looks(find: Callable[[], list[Job]]) -> Iterator[Status]:
    """How far a sweep is, every few seconds, until nothing is left to run."""
    watch = Watch()
    while True:
        status = Status.of(find(), watch)
        yield status
        if status.is_over:
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
    """The summary and the rates, then tables of who runs what and of all runs, then the errors.

    What changes most comes first, for a live picture that is higher than its terminal loses its end.
    """
    left = "-" if status.seconds_left is None else duration(status.seconds_left)
    parts: list[RenderableType] = [
        summary(status.standings),
        f"runs per hour: {number(status.runs_per_hour)}; time left: {left}",
    ]
    if begun := sum(one.state == "waiting" and one.begun for one in status.standings):
        parts.append(f"begun, and waiting to go on from the last state: {begun}")
    if owned := [one for one in status.standings if one.state in ("running", "abandoned")]:
        parts += ["", owners(owned)]
    parts += ["", groups(status)]
    if failed := [one for one in status.standings if one.state == "failed"]:
        parts += ["", *errors(failed)]
    return Group(*parts)


def groups(status: Status) -> Table:
    """Runs by state, a row for each dataset and algorithm."""
    table = Table("Dataset", "Algorithm", box=box.SIMPLE_HEAD, show_edge=False)
    for state in STATES:
        table.add_column(state.capitalize(), justify="right", style=STYLES.get(state), no_wrap=True)
    table.add_column("% done", justify="right", no_wrap=True)
    for (dataset, algorithm), found in status.groups.items():
        percent = 100 * found["done"] // sum(found.values())
        table.add_row(dataset, algorithm, *(str(found[state]) for state in STATES), str(percent))
    return table


def owners(standings: Sequence[Standing]) -> Table:
    """Who has which run since when, and how far it is."""
    table = Table("State", "Run", "Process", box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("Since", "Sign of life", "Step", "Images/s", "GPU GB", "Left"):
        table.add_column(column, justify="right", no_wrap=True)
    # The abandoned last, in the order of the sweep.
    for one in sorted(standings, key=lambda one: STATES.index(one.state)):
        live = one.live
        table.add_row(
            Text(one.state, STYLES[one.state]),
            one.job.name,
            one.owner.name if one.owner else "-",
            clock(one.owner.since) if one.owner else "-",
            f"{duration(one.silent_seconds or 0)} ago",
            f"{live.step}/{live.steps}" if live else "-",
            number(live.images_per_second if live else None),
            number(live.gpu_gb if live else None),
            duration(live.seconds_left) if live else "-",
        )
    return table


def errors(failed: Sequence[Standing]) -> Iterator[Text]:
    """The last lines of what failed; runs whose very last line is the same are shown as one."""
    kinds: dict[str, list[Standing]] = {}
    for one in failed:
        kinds.setdefault(one.errors[-1] if one.errors else "", []).append(one)
    shown = sorted(kinds.values(), key=len, reverse=True)
    for alike in shown[:MAX_ERRORS]:
        which = f"{alike[0].job}" if len(alike) == 1 else f"{len(alike)} runs, such as {alike[0].job}"
        yield Text.assemble(("failed", STYLES["failed"]), f": {which}")
        # What libraries print may be coloured.
        yield from (Text.assemble("    ", Text.from_ansi(line)) for line in alike[0].errors)
    if rest := sum(map(len, shown[MAX_ERRORS:])):
        yield Text(f"{rest} more failed with other errors: --format json has the lines of each")


def clock(when: float) -> str:
    """The time of day, or for another day than this the day and the time."""
    then, today = time.localtime(when), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
