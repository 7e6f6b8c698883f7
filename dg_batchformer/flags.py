"""The command line's grammar; flags that DomainBed has are called as there."""

from __future__ import annotations

import argparse

from dg_batchformer.jobs.launchers import LAUNCHERS
from dg_batchformer.runs.arguments import PRECISIONS, RunArguments
from dg_batchformer.runs.protocols import DOMAINBED, PROTOCOLS
from dg_batchformer.selection import formats
from dg_batchformer.selection.methods import METHODS, TRAINING_DOMAIN

DATASETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it gives has the command's name as `command`."""
    top = argparse.ArgumentParser(
        prog="dg-batchformer", description="BatchFormer for domain-generalization benchmarks."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _train_parser(commands.add_parser("train", help="one run"))
    _sweep_parser(commands.add_parser("sweep", help="many runs: launch, status, delete_incomplete"))
    _collect_parser(commands.add_parser("collect", help="the selection table of a sweep"))
    _leaderboard_parser(commands.add_parser("leaderboard", help="a ranking of many sweeps and published rows"))
    _data_parser(commands.add_parser("data", help="a benchmark's images: check, cache, info"))
    _paper_parser(commands.add_parser("paper", help="BatchFormer's published results, each with its command"))
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
    _compute_flags(p)
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
    p.set_defaults(command="train")


def _sweep_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "launch plans the runs, says what they will take and runs those that are not done; status says how far they "
        "are, who runs which and why some failed; delete_incomplete deletes all that are not done. The last two "
        "take --datasets and --algorithms to narrow what they look at."
    )
    p.add_argument("action", choices=["launch", "status", "delete_incomplete"])
    p.add_argument("--datasets", nargs="+", help=f"default for launch: {' '.join(DATASETS)}")
    p.add_argument("--algorithms", nargs="+", help="default for launch: the twelve standard ones")
    _compute_flags(p)
    p.add_argument(
        "--n_hparams",
        type=int,
        help="rows of the search, row 0 the defaults (default 20; 1 under a protocol that has no search)",
    )
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
    p.add_argument("--gpus", type=numbers, help="those of the multi_gpu launcher, such as 0,2 (default: all)")
    p.add_argument(
        "--jobs_per_gpu", type=int, default=1, help="runs at once on a GPU, with one copy of the images (default 1)"
    )
    p.add_argument("--retries", type=int, default=0, help="times that a failed run is tried again (default 0)")
    p.add_argument("--timeout", type=float, help="minutes after which a try of a run has failed (default: none)")
    p.add_argument(
        "--keep_going",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on when a run has failed (default); --no-keep_going begins no other",
    )
    p.add_argument(
        "--slurm",
        type=pair,
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="of a job, such as partition=gpu time=120 mem=16GB cpus_per_task=4 gpus_per_node=1",
    )
    p.add_argument("--dry_run", action="store_true", help="print what would be run, and run nothing")
    p.add_argument("--pairs", action="store_true", help="also leave out two environments, for cross-validation")
    p.add_argument("--single_test_envs", action="store_true", help="DomainBed's flag for what is the default here")
    p.add_argument("--skip_model_save", action="store_true", help="write no model.pkl")
    p.add_argument("--skip_confirmation", action="store_true", help="do not ask")
    p.add_argument("--format", default="text", choices=["text", "json"], help="of status (default %(default)s)")
    p.add_argument("--watch", action="store_true", help="show the status until no run is left to do, or Ctrl-C")
    p.set_defaults(command="sweep")


def _collect_parser(p: argparse.ArgumentParser) -> None:
    p.add_argument("--input_dir", required=True, help="folder of a sweep, ours or DomainBed's")
    _report_flags(p, list(METHODS))
    p.set_defaults(command="collect")


def _leaderboard_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "Ranks the algorithms of many sweeps and published rows, for each dataset and protocol; what cannot be "
        "compared is never in one table, and it says why."
    )
    p.add_argument("runs", nargs="+", metavar="RUNS", help="folders of sweeps, ours or DomainBed's")
    p.add_argument(
        "--reference",
        nargs="+",
        default=[],
        metavar="ROWS",
        help="published rows: `paper` (BatchFormer's) or CSV files with columns dataset, protocol, backbone, "
        "algorithm, environment, mean",
    )
    _report_flags(p, [TRAINING_DOMAIN])
    p.set_defaults(command="leaderboard")


def _report_flags(p: argparse.ArgumentParser, selections: list[str]) -> None:
    p.add_argument(
        "--selection",
        nargs="+",
        choices=list(METHODS),
        default=selections,
        metavar="METHOD",
        help=f"selection methods, of {', '.join(METHODS)} (default: {' '.join(selections)})",
    )
    p.add_argument("--ddof", type=int, choices=[0, 1], default=0, help="of standard errors (default 0, DomainBed's)")
    p.add_argument("--format", default="text", choices=formats.names())
    p.add_argument("--output", help="file to write to instead of printing")
    p.add_argument(
        "--command",
        dest="command_of",
        metavar="CELL",
        help="print the runs behind a cell, DATASET/ALGORITHM/COLUMN, and the commands that repeat them",
    )
    p.add_argument("--figures", metavar="DIR", help="draw figures into this folder, as PNG and PDF (extra `plots`)")


def _data_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "check decodes every image and says which are corrupt, writing nothing; cache decodes them into the cache that "
        "runs read; info says what is there."
    )
    p.add_argument("action", choices=["check", "cache", "info"])
    p.add_argument("--dataset", required=True, help="a benchmark, or folder:PATH")
    _data_flags(p)
    p.set_defaults(command="data")


def _paper_parser(p: argparse.ArgumentParser) -> None:
    p.description = "The domain-generalization rows of BatchFormer's tables, each with the command that reproduces it."
    p.add_argument("--table", type=int, help="6, 7, 14 or 15 (default: all)")
    p.add_argument("--data_dir", default="DATA", help="put into the commands (default %(default)s)")
    p.set_defaults(command="paper")


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of "0,2"."""
    return tuple(int(part) for part in text.split(","))


def pair(text: str) -> tuple[str, str | int]:
    """The name and value of "time=120"; a value of digits is a number."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise ValueError
    return name, int(value) if value.isdecimal() else value


def _data_flags(p: argparse.ArgumentParser) -> None:
    p.add_argument("--data_dir", help="folder in which the benchmarks' folders lie")
    p.add_argument(
        "--cache_dir", help="where decoded images are kept (default: a hidden folder beside the benchmark's)"
    )
    p.add_argument("--skip_corrupt", action="store_true", help="leave corrupt images out, and say so in every record")


def _compute_flags(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--protocol", default=DOMAINBED, help=f"what is held fixed: {', '.join(PROTOCOLS)} (default %(default)s)"
    )
    p.add_argument(
        "--fixed_hparams",
        action="store_true",
        help="all trials take trial 0's draws of the search (default: each draws its own, as in DomainBed)",
    )
    p.add_argument(
        "--precision", default=PRECISIONS[0], help=f"of the networks: {' or '.join(PRECISIONS)} (default %(default)s)"
    )
    p.add_argument(
        "--checkpoint_minutes",
        type=float,
        default=RunArguments.checkpoint_minutes,
        help="save the state of a run so often, from which an interrupted one goes on (default %(default)g)",
    )
    p.add_argument("--compile", action="store_true", help="compile the network, which pays in long runs on a GPU")
