"""A launch: what is to be run is said, checked and asked for, then run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dg_batchformer.errors import InputError
from dg_batchformer.jobs.folder import check_folder, check_results, tidy, versions_note, write
from dg_batchformer.jobs.launchers import LAUNCHERS, PLACES, Launcher, threads_of_each
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Job, Sweep, plan
from dg_batchformer.jobs.queue import Ended
from dg_batchformer.jobs.states import look, summary
from dg_batchformer.jobs.status import duration
from dg_batchformer.jobs.workers import warm_up
from dg_batchformer.training.arguments import parse_hparams


def launch(sweep: Sweep, launcher: Launcher, options: Options, *, ask: bool) -> int:
    """Runs what is not done of a sweep, saying before what it will take; returns 1 where a run failed, else 0."""
    output_dir = Path(sweep.output_dir)
    jobs = plan(sweep)
    used = {name for job in jobs for name in parse_hparams(job.arguments.hparams)}
    for name in parse_hparams(sweep.hparams).keys() - used:
        print(f"note: none of these algorithms has the hparam {name!r}")
    check_folder(jobs, output_dir)
    check_results(jobs)
    if note := versions_note(output_dir):
        print(f"note: {note}")
    tidy(jobs)
    to_do = [job for job in jobs if job.state != "done"]
    print(summary(look(jobs)))
    if options.dry_run or launcher is LAUNCHERS["dummy"] or not to_do:
        LAUNCHERS["dummy"](to_do, options, lambda ended: None)
        return 0
    places = PLACES[launcher](to_do, options)
    warm_up()
    from dg_batchformer.jobs.prepare import prepare

    seconds = prepare(jobs, to_do, threads_of_each(len(places))) / len(places)
    print(f"about to run {len(to_do)} in {len(places)} process(es), expected to take {duration(seconds)}")
    if ask and not confirmed():
        return 0
    write(to_do)
    n_failed, n_ended = run_and_report(launcher, to_do, options, len(places), seconds)
    if n_ended < len(to_do):
        print(f"{len(to_do) - n_ended} were not begun, for one has failed (--no-keep_going)")
    print(summary(look(jobs)))
    if n_failed:
        print(f"see: dg-batchformer sweep status --output_dir {output_dir}")
    return 1 if n_failed else 0


def run_and_report(
    launcher: Launcher, jobs: Sequence[Job], options: Options, n_workers: int, expected: float
) -> tuple[int, int]:
    """Runs jobs with a line as each try ends and the time left; returns how many failed, and how many ended."""
    errors: list[bool] = []
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]} left"))
    with Progress(*columns, console=Console(soft_wrap=True)) as progress:
        task = progress.add_task("", total=len(jobs), left=duration(expected))
        seconds: list[float] = []

        def report(ended: Ended) -> None:
            seconds.append(ended.seconds)
            if not ended.again:
                errors.append(ended.error is not None)
            left = duration(sum(seconds) / len(seconds) * (len(jobs) - len(errors)) / n_workers)
            progress.console.print(
                f"[{len(errors)}/{len(jobs)}] {ended.job} {ended.outcome} in {ended.seconds:.1f} s; {left} left",
                markup=False,
                highlight=False,
            )
            progress.update(task, completed=len(errors), left=left)

        launcher(jobs, options, report)
    return sum(errors), len(errors)


def confirmed() -> bool:
    """Whether the user says yes; InputError where there is nobody to say it."""
    try:
        return input("Are you sure? (y/n) ").strip().lower().startswith("y")
    except EOFError as error:
        raise InputError("no answer, so nothing was done: --skip_confirmation answers yes") from error
