"""Commands that train: one run, or a sweep of many."""

import argparse
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from dg_batchformer.commands.flags import Command, arguments_of, run_flags
from dg_batchformer.errors import InputError, Problems
from dg_batchformer.jobs import confirmed, launch, status
from dg_batchformer.jobs.folder import find
from dg_batchformer.jobs.launchers import find_launcher, launchers, options
from dg_batchformer.jobs.plan import Job, Sweep
from dg_batchformer.registry import ALGORITHMS
from dg_batchformer.runs.arguments import FIELDS, Role, RunArguments, names_of
from dg_batchformer.runs.folder import State
from dg_batchformer.runs.protocols import find_protocol

DATASETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita")

OF_A_SWEEP = [name for name in FIELDS if name not in names_of(Role.VARIED)]
"""The arguments that all runs of a sweep share."""


def _train_parser(p: argparse.ArgumentParser) -> None:
    p.description = "Trains one algorithm with some environments left out. An interrupted run resumes."
    left_out = {
        "nargs": "*",
        "default": None,
        "help": f"{FIELDS['test_envs'].metadata['help']} (default 0; none of mdlt:; all but --train_envs)",
    }
    files = run_flags(p, list(FIELDS), test_envs=left_out)["files"]
    files.add_argument("--overwrite", action="store_true", help="replace a finished run in the output folder")


def train(arguments: argparse.Namespace) -> int:
    """Trains one run in this process."""
    from dg_batchformer.data import find_benchmark
    from dg_batchformer.errors import DivergedError
    from dg_batchformer.runs.claim import LostError, TakenError
    from dg_batchformer.training.trainer import run

    given = arguments_of(RunArguments, arguments)
    if given["test_envs"] is None:
        benchmark = Problems().attempt(find_benchmark, given["dataset"])  # `run` reports an invalid dataset
        given["test_envs"] = [0]
        if benchmark and (benchmark.tests or given["train_envs"]):
            others = [i for i in range(len(benchmark.environments)) if i not in (given["train_envs"] or [])]
            given["test_envs"] = [] if benchmark.tests else others
    try:
        run(RunArguments(**given), overwrite=arguments.overwrite)
    except (DivergedError, LostError, TakenError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"results in {arguments.output_dir}")
    return 0


def _sweep_parser(p: argparse.ArgumentParser) -> None:
    p.description = textwrap.dedent("""\
        launch             plans the runs, says how long they will take, and runs those that are not done
        status             shows the state of the runs, their speed, and the errors of failed ones
        delete_incomplete  deletes the runs that are not done and that no process runs

        status and delete_incomplete take --datasets and --algorithms to select runs.""")
    p.add_argument("action", choices=["launch", "status", "delete_incomplete"])
    runs = p.add_argument_group("runs")
    runs.add_argument("--datasets", nargs="+", help=f"default for launch: {' '.join(DATASETS)}")
    runs.add_argument("--algorithms", nargs="+", help="default for launch: the twelve standard ones")
    runs.add_argument(
        "--n_hparams",
        type=int,
        help=f"rows of the search, row 0 the defaults (default {Sweep.n_hparams}; 1 with --preset or without a search)",
    )
    runs.add_argument("--n_hparams_from", type=int, default=0, help="first row (default 0)")
    runs.add_argument("--n_trials", type=int, default=3, help="trials, each with its own splits (default 3)")
    runs.add_argument("--pairs", action="store_true", help="also leave out two environments, for cross-validation")
    runs.add_argument(
        "--single_test_envs",
        action="store_true",
        help="leave out single environments: the default, but for datasets with test splits",
    )
    runs.add_argument(
        "--n_test_envs",
        type=int,
        default=Sweep.n_test_envs,
        help="leave out each set of so many environments; all but one: single-source (default %(default)s)",
    )
    run_flags(
        p,
        OF_A_SWEEP,
        output_dir={"required": True, "help": "folder of the sweep, with a folder in it for each run"},
        hparams={"help": "JSON object; each algorithm takes those that it has"},
    )
    launch = p.add_argument_group("launch")
    launch.add_argument("--command_launcher", default="local", help=f"{' or '.join(launchers())} (default %(default)s)")
    for name, one in options().items():
        kind: dict[str, Any] = {} if "type" in one.metadata else {"action": argparse.BooleanOptionalAction}
        launch.add_argument(f"--{name}", default=one.default, **one.metadata, **kind)
    launch.add_argument("--dry_run", action="store_true", help="print the commands, run nothing")
    launch.add_argument("--skip_confirmation", action="store_true", help="answer yes to all questions")
    shown = p.add_argument_group("status")
    shown.add_argument(
        "--format", default="text", choices=["text", "json"], help="format of the status (default %(default)s)"
    )
    shown.add_argument("--watch", action="store_true", help="show the status until all runs have ended, or Ctrl-C")


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
        searches = find_protocol(arguments.protocol).searches and not arguments.preset
        given["n_hparams"] = Sweep.n_hparams if searches else 1
    sweep = Sweep(**given, common=RunArguments(**arguments_of(RunArguments, arguments)))
    return launch(sweep, launcher, ask=not arguments.skip_confirmation, dry_run=arguments.dry_run)


COMMANDS = (
    Command(
        "train",
        "one run",
        _train_parser,
        train,
        (
            "train --algorithm ERM_BatchFormer --test_envs 0",
            "train --dataset PACS --data_dir DATA --algorithm CORAL_BatchFormer --test_envs 3 --output_dir run",
        ),
    ),
    Command(
        "sweep",
        "many runs: launch, status, delete_incomplete",
        _sweep_parser,
        sweep,
        (
            "sweep launch --datasets PACS --data_dir DATA --algorithms ERM ERM_BatchFormer --output_dir sweep",
            "sweep status --output_dir sweep --watch",
        ),
    ),
)
