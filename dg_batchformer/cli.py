"""The command line."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dg_batchformer import machine
from dg_batchformer.errors import InputError, Problems
from dg_batchformer.flags import DATASETS, arguments_of, parser
from dg_batchformer.jobs import confirmed, launch, status
from dg_batchformer.jobs.folder import find
from dg_batchformer.jobs.launchers import find_launcher
from dg_batchformer.jobs.plan import Job, Sweep
from dg_batchformer.registry import ALGORITHMS
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.folder import State
from dg_batchformer.runs.protocols import find_protocol
from dg_batchformer.training.process import Interrupted

if TYPE_CHECKING:
    from dg_batchformer.selection import Collected
    from dg_batchformer.selection.inference import Rules
    from dg_batchformer.selection.report import Report
    from dg_batchformer.selection.shots import Thresholds


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; invalid input ends it with status 2 and a message, without a traceback."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: COMMANDS[arguments.command](arguments))


def guarded(command: Callable[[], int]) -> int:
    """The exit status of a command; prints errors for the user."""
    try:
        return command()
    except BrokenPipeError:
        # The reader of the output has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, OSError) as error:
        for problem in str(error).splitlines():
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Interrupted as error:
        print(f"stopped by {error.signal_name}", file=sys.stderr)
        return 128 + signal.Signals[error.signal_name].value


def data(arguments: argparse.Namespace) -> int:
    """Checks the images of a benchmark, decodes them into the cache, or shows what exists."""
    from dg_batchformer.data import find_benchmark, loaders
    from dg_batchformer.data.folders import Source

    action = {"check": loaders.check, "cache": loaders.fill_cache, "info": loaders.info}[arguments.action]
    where = Source(arguments.data_dir, arguments.cache_dir, arguments.skip_corrupt, machine.available_cores())
    print("\n".join(action(find_benchmark(arguments.dataset), where)))
    return 0


def train(arguments: argparse.Namespace) -> int:
    """Trains one run in this process."""
    from dg_batchformer.data import find_benchmark
    from dg_batchformer.errors import DivergedError
    from dg_batchformer.runs.claim import LostError, TakenError
    from dg_batchformer.training.trainer import run

    given = arguments_of(RunArguments, arguments)
    if given["test_envs"] is None:
        benchmark = Problems().attempt(find_benchmark, given["dataset"])  # `run` reports an invalid dataset
        given["test_envs"] = [] if benchmark and benchmark.tests else [0]
    try:
        run(RunArguments(**given), overwrite=arguments.overwrite)
    except (DivergedError, LostError, TakenError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"results in {arguments.output_dir}")
    return 0


def sweep(arguments: argparse.Namespace) -> int:
    """Launches a sweep, shows its status, or deletes unfinished runs."""
    if arguments.action == "launch":
        return launch_sweep(arguments)
    if arguments.action == "status":
        status.show(lambda: chosen(arguments), arguments.format, watch=arguments.watch)
        return 0
    return delete_incomplete(arguments)


def chosen(arguments: argparse.Namespace) -> list[Job]:
    """The runs in the folder of a sweep that the flags select."""
    jobs = [
        job
        for job in find(Path(arguments.output_dir))
        if job.arguments.dataset in (arguments.datasets or [job.arguments.dataset])
        and job.arguments.algorithm in (arguments.algorithms or [job.arguments.algorithm])
    ]
    if not jobs:
        raise InputError(f"{arguments.output_dir} has no matching run: check --datasets and --algorithms")
    return jobs


def delete_incomplete(arguments: argparse.Namespace) -> int:
    """Deletes the runs that are neither done nor running, if the user agrees."""

    def of_nobody(looks: list[status.Look]) -> list[Job]:
        return [job for job, now in looks if now.state not in (State.DONE, State.RUNNING)]

    looks = status.look(chosen(arguments))
    doomed = of_nobody(looks)
    running = sum(one.now.state is State.RUNNING for one in looks)
    stay = f"; {running} running kept" if running else ""
    print(f"{status.summary(looks)}\nabout to delete {len(doomed)} unfinished run(s){stay}")
    if doomed and (arguments.skip_confirmation or confirmed()):
        # A run may have started before the answer.
        doomed = of_nobody(status.look(doomed))
        for job in doomed:
            shutil.rmtree(job.folder.path)
        print(f"deleted {len(doomed)} runs")
    return 0


def launch_sweep(arguments: argparse.Namespace) -> int:
    """Launches the sweep that the flags describe."""
    if arguments.pairs and arguments.single_test_envs:
        raise InputError("--pairs and --single_test_envs contradict each other: expected one of them")
    launcher = find_launcher(arguments.command_launcher, vars(arguments))
    given = arguments_of(Sweep, arguments)
    given["datasets"] = given["datasets"] or DATASETS
    given["algorithms"] = given["algorithms"] or ALGORITHMS
    if given["n_hparams"] is None:
        given["n_hparams"] = Sweep.n_hparams if find_protocol(arguments.protocol).searches else 1
    sweep = Sweep(**given, common=RunArguments(**arguments_of(RunArguments, arguments)))
    return launch(sweep, launcher, ask=not arguments.skip_confirmation, dry_run=arguments.dry_run)


@machine.without_garbage_collection()
def collect(arguments: argparse.Namespace) -> int:
    """The selection table of a sweep."""
    from dg_batchformer.selection.report import report

    collected = read_runs([arguments.input_dir])
    return publish(report(collected, *how(arguments)), arguments)


@machine.without_garbage_collection()
def leaderboard(arguments: argparse.Namespace) -> int:
    """The ranking of many sweeps and published rows."""
    from dg_batchformer.selection import leaderboard

    published = [row for name in arguments.reference for row in leaderboard.load(name)]
    collected = read_runs(arguments.runs)
    return publish(leaderboard.leaderboard(collected, published, *how(arguments)), arguments)


@machine.without_garbage_collection()
def power(arguments: argparse.Namespace) -> int:
    """The power of the comparisons of a sweep."""
    from dg_batchformer.selection import report

    if not arguments.effect > 0:
        raise InputError(f"--effect is {arguments.effect}: expected a difference above 0 points, such as 0.7")
    made = report.report(read_runs([arguments.input_dir]), selections=[arguments.selection])
    say_problems(made)
    lines = report.power(made, arguments.effect)
    print("\n".join(lines) or "no comparison: the sweep needs an algorithm with and without a modifier, and two trials")
    return 0


def how(arguments: argparse.Namespace) -> tuple[int, Sequence[str], Thresholds | None, Rules]:
    """The arguments of a report."""
    from dg_batchformer.selection.inference import Rules

    if not arguments.rope >= 0:
        raise InputError(f"--rope is {arguments.rope}: expected at least 0 points, such as 0.5")
    return arguments.ddof, arguments.selection, thresholds(arguments), Rules(arguments.rope, arguments.family)


def thresholds(arguments: argparse.Namespace) -> Thresholds | None:
    """The given numbers of training images that divide many-, medium- and few-shot classes; None: the datasets'."""
    from dg_batchformer.selection.shots import Thresholds

    if arguments.shots is None:
        return None
    many, few = arguments.shots
    if not 0 <= few <= many:
        raise InputError(f"--shots is {many} {few}: expected MANY FEW with 0 <= FEW <= MANY, such as 100 20")
    return Thresholds(many, few)


def read_runs(folders: Sequence[str]) -> Collected:
    """The runs of some folders."""
    from dg_batchformer.selection import collect

    return collect([Path(folder) for folder in folders])


def publish(report: Report, arguments: argparse.Namespace) -> int:
    """Prints or writes a report, or the runs behind one of its cells; problems go to the error stream."""
    from dg_batchformer.selection.formats import render, text
    from dg_batchformer.selection.report import explain

    say_problems(report)
    if arguments.command_of:
        print("\n".join(explain(report, arguments.command_of)))
        return 0
    if arguments.figures:
        from dg_batchformer.charts import draw
        from dg_batchformer.selection.formats.json import document

        drawn = draw(document(report, with_curves=True), Path(arguments.figures))
        print("\n".join(f"wrote {path}" for path in drawn) or "no figure: no table has a number")
        return 0

    def content(*, color: bool) -> str:
        if arguments.format == "text":
            return text.render(report, color=color, verbose=arguments.verbose)
        return render(report, arguments.format)

    if arguments.output:
        Path(arguments.output).write_text(content(color=False), encoding="utf-8")
        print(f"wrote {arguments.output}")
    else:
        print(content(color=sys.stdout.isatty()), end="")
    return 0


def say_problems(report: Report) -> None:
    """Prints the problems of a report to the error stream."""
    from dg_batchformer.selection import summary

    for line in summary(report.problems):
        print(f"note: {line}", file=sys.stderr)


def check_algorithm(arguments: argparse.Namespace) -> int:
    """The points of an algorithm on random images."""
    from dg_batchformer.registry import MODIFIER_ORDER
    from dg_batchformer.runs.arguments import parse_hparams
    from dg_batchformer.training.check import check_algorithm

    fails = False
    for point in check_algorithm(arguments.algorithm, parse_hparams(arguments.hparams), arguments.image_size):
        kind = f"with {point.name}" if point.name in MODIFIER_ORDER else point.name
        print(f"{'ok' if point.holds else 'NO':3} {kind:17} {point.found}", flush=True)
        fails |= not point.holds and point.name not in MODIFIER_ORDER
    return int(fails)


def paper(arguments: argparse.Namespace) -> int:
    """The rows of the paper with their commands."""
    from dg_batchformer.paper import listing

    print(listing(arguments.table, arguments.data_dir), end="")
    return 0


COMMANDS = {
    "train": train,
    "sweep": sweep,
    "collect": collect,
    "leaderboard": leaderboard,
    "power": power,
    "data": data,
    "check-algorithm": check_algorithm,
    "paper": paper,
}
