"""The command line."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dg_batchformer.errors import InputError
from dg_batchformer.jobs import status
from dg_batchformer.jobs.launchers import LAUNCHERS, Ended, Launcher, default_workers, find_launcher, threads_of_each
from dg_batchformer.jobs.plan import Job, Sweep, check_folder, find, plan, write
from dg_batchformer.registry import ALGORITHMS
from dg_batchformer.training.arguments import RunArguments, parse_hparams

if TYPE_CHECKING:
    from dg_batchformer.selection.table import Section

DATASETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; wrong input ends it with status 2 and the reason, without a traceback."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: arguments.command(arguments))


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


def parser() -> argparse.ArgumentParser:
    """The command line's grammar; flags that DomainBed has are called as there."""
    top = argparse.ArgumentParser(
        prog="dg-batchformer", description="BatchFormer for domain-generalization benchmarks."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _train_parser(commands.add_parser("train", help="one run"))
    _sweep_parser(commands.add_parser("sweep", help="many runs: launch, status, delete_incomplete"))
    _collect_parser(commands.add_parser("collect", help="the selection table of a sweep"))
    _data_parser(commands.add_parser("data", help="a benchmark's images: check, cache, info"))
    return top


def _train_parser(p: argparse.ArgumentParser) -> None:
    default = RunArguments()
    _data_flags(p)
    p.add_argument("--dataset", default=default.dataset, help="a benchmark, or folder:PATH (default %(default)s)")
    p.add_argument(
        "--algorithm",
        default=default.algorithm,
        help="such as CORAL_BatchFormer, or module:Class (default %(default)s)",
    )
    p.add_argument(
        "--test_envs", type=int, nargs="+", default=default.test_envs, help="environments left out (default 0)"
    )
    p.add_argument("--hparams", help="JSON object of the hyper-parameters that differ")
    p.add_argument("--hparams_seed", type=int, default=0, help="0 (default): the defaults, else a row of the search")
    p.add_argument("--trial_seed", type=int, default=0, help="seeds the splits and the search (default 0)")
    p.add_argument("--seed", type=int, default=0, help="seeds everything else (default 0)")
    p.add_argument("--steps", type=int, help="default: the dataset's")
    p.add_argument("--checkpoint_freq", type=int, help="steps between evaluations; default: the dataset's")
    p.add_argument("--holdout_fraction", type=float, default=0.2, help="share of the out-splits (default %(default)s)")
    p.add_argument("--output_dir", default=default.output_dir, help="default %(default)s")
    p.add_argument("--overwrite", action="store_true", help="replace a finished run in the output folder")
    p.add_argument("--skip_model_save", action="store_true", help="write no model.pkl")
    p.add_argument("--save_model_every_checkpoint", action="store_true", help="write model_step{step}.pkl too")
    p.set_defaults(command=train)


def _sweep_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "launch plans the runs, says what they will take and runs those that are not done; status says how far they "
        "are and why some failed; delete_incomplete deletes all that are not done. The last two "
        "take --datasets and --algorithms to narrow what they look at."
    )
    p.add_argument("action", choices=["launch", "status", "delete_incomplete"])
    p.add_argument("--datasets", nargs="+", help=f"default for launch: {' '.join(DATASETS)}")
    p.add_argument("--algorithms", nargs="+", help="default for launch: the twelve standard ones")
    p.add_argument("--n_hparams", type=int, default=20, help="rows of the search, row 0 the defaults (default 20)")
    p.add_argument("--n_hparams_from", type=int, default=0, help="first row (default 0)")
    p.add_argument("--n_trials", type=int, default=3, help="trials, each with its own splits (default 3)")
    p.add_argument("--steps", type=int, help="default: the dataset's")
    p.add_argument("--checkpoint_freq", type=int, help="steps between evaluations; default: the dataset's")
    p.add_argument("--hparams", help="JSON object; each algorithm takes those that it has")
    p.add_argument("--holdout_fraction", type=float, default=0.2, help="share of the out-splits (default %(default)s)")
    _data_flags(p)
    p.add_argument("--output_dir", required=True, help="folder of the sweep, with a folder in it for each run")
    p.add_argument("--command_launcher", default="local", help=f"{' or '.join(LAUNCHERS)} (default %(default)s)")
    p.add_argument("--n_workers", type=int, help="processes of the local launcher; default by cores and image size")
    p.add_argument("--pairs", action="store_true", help="also leave out two environments, for cross-validation")
    p.add_argument("--single_test_envs", action="store_true", help="DomainBed's flag for what is the default here")
    p.add_argument("--skip_model_save", action="store_true", help="write no model.pkl")
    p.add_argument("--skip_confirmation", action="store_true", help="do not ask")
    p.set_defaults(command=sweep)


def _collect_parser(p: argparse.ArgumentParser) -> None:
    p.add_argument("--input_dir", required=True, help="folder of a sweep, ours or DomainBed's")
    p.add_argument("--format", default="text", choices=["text", "markdown", "latex", "csv", "json"])
    p.add_argument("--output", help="file to write to instead of printing")
    p.set_defaults(command=collect)


def _data_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "check decodes every image and says which are corrupt, writing nothing; cache decodes them into the cache that "
        "runs read; info says what is there."
    )
    p.add_argument("action", choices=["check", "cache", "info"])
    p.add_argument("--dataset", required=True, help="a benchmark, or folder:PATH")
    _data_flags(p)
    p.set_defaults(command=data)


def _data_flags(p: argparse.ArgumentParser) -> None:
    p.add_argument("--data_dir", help="folder in which the benchmarks' folders lie")
    p.add_argument(
        "--cache_dir", help="where decoded images are kept (default: a hidden folder beside the benchmark's)"
    )
    p.add_argument("--skip_corrupt", action="store_true", help="leave corrupt images out, and say so in every record")


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
    from dg_batchformer.training.run import DivergedError, run

    names = [field.name for field in dataclasses.fields(RunArguments)]
    try:
        run(RunArguments(**{name: getattr(arguments, name) for name in names}), overwrite=arguments.overwrite)
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
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
    unfinished = [job for job in jobs if job.state != "done"]
    print(f"{status.summary(jobs)}\nabout to delete the {len(unfinished)} that are not done")
    if unfinished and (arguments.skip_confirmation or confirmed()):
        for job in unfinished:
            shutil.rmtree(job.folder)
        print(f"deleted {len(unfinished)} runs")
    return 0


def launch(arguments: argparse.Namespace) -> int:
    """Plans a sweep, says what it will take, and runs what is not done; status 1 where a run failed."""
    if arguments.pairs and arguments.single_test_envs:
        raise InputError("--pairs and --single_test_envs contradict each other: expected one of them")
    if arguments.n_workers is not None and arguments.n_workers < 1:
        raise InputError(f"--n_workers is {arguments.n_workers}: expected at least 1")
    launcher = find_launcher(arguments.command_launcher)
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Sweep)}
    given["datasets"] = given["datasets"] or DATASETS
    given["algorithms"] = given["algorithms"] or ALGORITHMS
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
    from dg_batchformer.jobs.prepare import prepare

    n_workers = min(arguments.n_workers or default_workers(to_do), len(to_do))
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
            outcome = f"FAILED: {ended.error}" if ended.error else "done"
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
