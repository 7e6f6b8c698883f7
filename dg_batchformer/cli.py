"""The command line."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dg_batchformer.errors import InputError
from dg_batchformer.flags import DATASETS, parser
from dg_batchformer.jobs import status
from dg_batchformer.jobs.folder import check_folder, find, write
from dg_batchformer.jobs.launchers import LAUNCHERS, Launcher, default_workers, find_launcher, threads_of_each
from dg_batchformer.jobs.plan import Job, Sweep, plan
from dg_batchformer.jobs.workers import Ended, warm_up
from dg_batchformer.registry import ALGORITHMS
from dg_batchformer.training.arguments import RunArguments, parse_hparams
from dg_batchformer.training.claim import Watch
from dg_batchformer.training.protocols import find_protocol

if TYPE_CHECKING:
    from dg_batchformer.selection.table import Section


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; wrong input ends it with status 2 and the reason, without a traceback."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: COMMANDS[arguments.command](arguments))


def guarded(command: Callable[[], int]) -> int:
    """The exit status of a command, its errors said as a user should see them."""
    try:
        return command()
    except BrokenPipeError:
        # Whoever read our output has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, OSError) as error:
        for problem in str(error).splitlines():
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def data(arguments: argparse.Namespace) -> int:
    """Checks a benchmark's images, decodes them into the cache, or says what is there."""
    from dg_batchformer.data import doctor

    given = (arguments.dataset, arguments.data_dir, arguments.cache_dir)
    if arguments.action == "check":
        lines = doctor.check(*given[:2])
    elif arguments.action == "cache":
        lines = doctor.cache(*given, skip_corrupt=arguments.skip_corrupt)
    else:
        lines = doctor.info(*given)
    print("\n".join(lines))
    return 0


def train(arguments: argparse.Namespace) -> int:
    """One run in this process."""
    from dg_batchformer.training.claim import TakenError
    from dg_batchformer.training.interrupt import Interrupted, LostError
    from dg_batchformer.training.run import run
    from dg_batchformer.training.trainer import DivergedError

    names = [field.name for field in dataclasses.fields(RunArguments)]
    try:
        run(RunArguments(**{name: getattr(arguments, name) for name in names}), overwrite=arguments.overwrite)
    except (DivergedError, LostError, TakenError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        return 128 + signal.Signals[error.signal_name].value
    return 0


def sweep(arguments: argparse.Namespace) -> int:
    """Launches a sweep, says how far it is, or deletes what did not finish."""
    if arguments.action == "launch":
        return launch(arguments)
    jobs = [
        job
        for job in find(Path(arguments.output_dir))
        if job.arguments.dataset in (arguments.datasets or [job.arguments.dataset])
        and job.arguments.algorithm in (arguments.algorithms or [job.arguments.algorithm])
    ]
    if not jobs:
        raise InputError(f"{arguments.output_dir} has no such run: expected some that `sweep launch` has made")
    if arguments.action == "status":
        print(status.report(jobs))
        return 0
    unfinished = [job for job in jobs if job.state != "done" and Watch().is_free(job.folder)]
    running = sum(job.state != "done" for job in jobs) - len(unfinished)
    stay = f"; {running} that a process has stay" if running else ""
    print(f"{status.summary(jobs)}\nabout to delete the {len(unfinished)} that are not done{stay}")
    if unfinished and (arguments.skip_confirmation or confirmed()):
        for job in unfinished:
            shutil.rmtree(job.folder)
        print(f"deleted {len(unfinished)} runs")
    return 0


def launch(arguments: argparse.Namespace) -> int:
    """Plans a sweep, says what it will take, and runs what is not done; status 1 where a run failed."""
    if arguments.pairs and arguments.single_test_envs:
        raise InputError("--pairs and --single_test_envs contradict each other: expected one of them")
    for name in ("n_workers", "jobs_per_gpu"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}: expected at least 1")
    launcher = find_launcher(arguments.command_launcher)
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Sweep)}
    given["datasets"] = given["datasets"] or DATASETS
    given["algorithms"] = given["algorithms"] or ALGORITHMS
    if given["n_hparams"] is None:
        given["n_hparams"] = Sweep.n_hparams if find_protocol(arguments.protocol).searches else 1
    jobs = plan(Sweep(**given))
    used = {name for job in jobs for name in parse_hparams(job.arguments.hparams)}
    for name in parse_hparams(arguments.hparams).keys() - used:
        print(f"note: none of these algorithms has the hparam {name!r}")
    check_folder(jobs, Path(arguments.output_dir))
    to_do = [job for job in jobs if job.state != "done"]
    print(status.summary(jobs))
    if launcher is LAUNCHERS["dummy"] or not to_do:
        launcher(to_do, 1, lambda ended: None)
        return 0
    if launcher is LAUNCHERS["local"]:
        warm_up()
    from dg_batchformer.jobs.prepare import prepare

    n_workers = min(arguments.n_workers or default_workers(to_do, arguments.jobs_per_gpu), len(to_do))
    seconds = prepare(jobs, to_do, threads_of_each(n_workers)) / n_workers
    print(f"about to run {len(to_do)} in {n_workers} process(es), expected to take {status.duration(seconds)}")
    if not arguments.skip_confirmation and not confirmed():
        return 0
    write(to_do)
    failed = run_and_report(launcher, to_do, n_workers, seconds)
    print(status.summary(jobs))
    if failed:
        print(f"see: dg-batchformer sweep status --output_dir {arguments.output_dir}")
    return 1 if failed else 0


def run_and_report(launcher: Launcher, jobs: Sequence[Job], n_workers: int, expected: float) -> int:
    """Runs jobs with a line as each one ends and the time left; returns how many failed."""
    failures = []
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]} left"))
    with Progress(*columns, console=Console(soft_wrap=True)) as progress:
        task = progress.add_task("", total=len(jobs), left=status.duration(expected))
        seconds: list[float] = []

        def report(ended: Ended) -> None:
            if ended.error:
                failures.append(ended)
            seconds.append(ended.seconds)
            n_ended = len(seconds)
            left = status.duration(sum(seconds) / n_ended * (len(jobs) - n_ended) / n_workers)
            outcome = f"FAILED: {ended.error}" if ended.error else "done elsewhere" if ended.elsewhere else "done"
            progress.console.print(
                f"[{n_ended}/{len(jobs)}] {ended.job} {outcome} in {ended.seconds:.1f} s; {left} left",
                markup=False,
                highlight=False,
            )
            progress.update(task, advance=1, left=left)

        launcher(jobs, n_workers, report)
    return len(failures)


def confirmed() -> bool:
    """Whether the user says yes; InputError where there is nobody to say it."""
    try:
        return input("Are you sure? (y/n) ").strip().lower().startswith("y")
    except EOFError as error:
        raise InputError("no answer, so nothing was done: --skip_confirmation answers yes") from error


def collect(arguments: argparse.Namespace) -> int:
    """The table of a sweep, printed or written."""
    from dg_batchformer.selection.render import FORMATS

    table = FORMATS[arguments.format](read_table(Path(arguments.input_dir)))
    if arguments.output:
        Path(arguments.output).write_text(table, encoding="utf-8")
        print(f"wrote {arguments.output}")
    else:
        print(table, end="")
    return 0


def read_table(input_dir: Path) -> list[Section]:
    """The tables of a sweep's folder; what was passed over is said on the error stream."""
    from dg_batchformer.selection.runs import collect
    from dg_batchformer.selection.table import build

    collected = collect(input_dir)
    for problem in collected.problems:
        print(f"note: {problem}", file=sys.stderr)
    if not collected.runs:
        raise InputError(f"{input_dir} has no finished run: expected at least one with its `done`")
    return build(collected)


def paper(arguments: argparse.Namespace) -> int:
    """The paper's rows with their commands."""
    from dg_batchformer.paper import listing

    print(listing(arguments.table, arguments.data_dir), end="")
    return 0


COMMANDS = {"train": train, "sweep": sweep, "collect": collect, "data": data, "paper": paper}
