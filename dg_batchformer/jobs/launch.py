"""A launch: what is to be run is said, checked and asked for, then run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dg_batchformer.errors import InputError
from dg_batchformer.jobs.folder import check_folder, check_results, tidy, versions_note, write
from dg_batchformer.jobs.launchers import Launcher
from dg_batchformer.jobs.local import run_at, threads_of_each
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Job, Sweep, plan
from dg_batchformer.jobs.queue import Ended
from dg_batchformer.jobs.states import look, summary
from dg_batchformer.jobs.status import duration
from dg_batchformer.jobs.workers import Place, warm_up
from dg_batchformer.runs.arguments import parse_hparams
from dg_batchformer.runs.failures import but_for_space


def launch(sweep: Sweep, launcher: Launcher, options: Options, *, ask: bool) -> int:
    """Runs what is not done of a sweep, saying before what it will take; returns 1 where a run is still not, else 0."""
    output_dir = Path(sweep.output_dir)
    jobs = plan(sweep)
    used = {name for job in jobs for name in parse_hparams(job.arguments.hparams)}
    for name in parse_hparams(sweep.hparams).keys() - used:
        print(f"note: none of these algorithms has the hparam {name!r}")
    check_folder(jobs, output_dir)
    check_results(jobs)
    if note := versions_note(output_dir):
        print(f"note: {note}")
    to_do = [job for job in jobs if job.state != "done"]
    print(summary(look(jobs)))
    if not to_do:
        tidy(jobs)
        return 0
    if launcher.places and not options.dry_run:
        return run_here(launcher.places(to_do, options), jobs, to_do, options, ask=ask)
    if launcher.submission and not options.dry_run:
        return hand_over(launcher.submission(to_do, options), jobs, to_do, ask=ask)
    launcher.preview(to_do, options)
    return 0


def run_here(places: list[Place], jobs: Sequence[Job], to_do: Sequence[Job], options: Options, *, ask: bool) -> int:
    """Runs on this machine and waits; returns 1 where a run is not done in the end, else 0."""
    warm_up()
    from dg_batchformer.jobs.prepare import expected_seconds

    seconds = expected_seconds(jobs, to_do, threads_of_each(len(places))) / len(places)
    print(f"about to run {len(to_do)} in {len(places)} process(es), expected to take {duration(seconds)}")
    if ask and not confirmed():
        return 0
    tidy(jobs)
    write(to_do)
    run_and_report(places, to_do, options, seconds)
    print(summary(look(jobs)))
    if all(job.state == "done" for job in to_do):
        return 0
    print(f"see: dg-batchformer sweep status --output_dir {to_do[0].folder.parent}")
    return 1


def hand_over(submit: Callable[[], None], jobs: Sequence[Job], to_do: Sequence[Job], *, ask: bool) -> int:
    """Hands the runs over and does not wait for them; returns 0."""
    from dg_batchformer.jobs.prepare import check_runs

    check_runs(to_do)
    print(f"about to submit {len(to_do)} runs")
    if not ask or confirmed():
        tidy(jobs)
        write(to_do)
        submit()
    return 0


def run_and_report(places: list[Place], jobs: Sequence[Job], options: Options, expected: float) -> None:
    """Runs jobs at places with a line as each try ends, and the time left."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]} left"))
    with Progress(*columns, console=Console(soft_wrap=True)) as progress:
        task = progress.add_task("", total=len(jobs), left=duration(expected))
        seconds: list[float] = []

        def report(ended: Ended) -> None:
            seconds.append(ended.seconds)
            progress.advance(task, 0 if ended.again else 1)
            n_ended = round(progress.tasks[0].completed)
            left = duration(sum(seconds) / len(seconds) * (len(jobs) - n_ended) / len(places))
            progress.update(task, left=left)
            line = f"[{n_ended}/{len(jobs)}] {ended}; {left} left"
            with but_for_space():
                progress.console.print(line, markup=False, highlight=False)

        run_at(places, jobs, options, report)


def confirmed() -> bool:
    """Whether the user says yes; InputError where there is nobody to say it."""
    try:
        return input("Are you sure? (y/n) ").strip().lower().startswith("y")
    except EOFError as error:
        raise InputError("no answer, so nothing was done: --skip_confirmation answers yes") from error
