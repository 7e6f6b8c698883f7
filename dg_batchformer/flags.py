"""The command line's grammar; flags that DomainBed has are called as there.

Those of a run derive from the fields of `RunArguments`, those of a launcher from its own.
"""

import argparse
import dataclasses
from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

from dg_batchformer.jobs.launchers import launchers, options
from dg_batchformer.jobs.plan import Sweep
from dg_batchformer.runs.arguments import FIELDS, Role, RunArguments, names_of
from dg_batchformer.selection import formats
from dg_batchformer.selection.methods import METHODS, TRAINING_DOMAIN

DATASETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita")

OF_A_SWEEP = [name for name in FIELDS if name not in names_of(Role.VARIED)]
"""The arguments that all runs of a sweep share."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it gives has the command's name as `command`."""
    top = argparse.ArgumentParser(
        prog="dg-batchformer", description="BatchFormer for domain-generalization benchmarks."
    )
    commands = top.add_subparsers(required=True, dest="command", metavar="COMMAND")
    train = commands.add_parser("train", help="one run")
    _run_flags(train, FIELDS)
    train.add_argument("--overwrite", action="store_true", help="replace a finished run in the output folder")
    _sweep_parser(commands.add_parser("sweep", help="many runs: launch, status, delete_incomplete"))
    _collect_parser(commands.add_parser("collect", help="the selection table of a sweep"))
    _leaderboard_parser(commands.add_parser("leaderboard", help="a ranking of many sweeps and published rows"))
    _data_parser(commands.add_parser("data", help="a benchmark's images: check, cache, info"))
    _paper_parser(commands.add_parser("paper", help="BatchFormer's published results, each with its command"))
    return top


def arguments_of(cls: type, parsed: argparse.Namespace) -> dict[str, Any]:
    """Those of the parsed flags that are fields of a dataclass."""
    return {one.name: getattr(parsed, one.name) for one in dataclasses.fields(cls) if hasattr(parsed, one.name)}


def _run_flags(p: argparse.ArgumentParser, names: Iterable[str], **changed: dict[str, Any]) -> None:
    """Flags of a run's arguments; `changed` has what argparse gets otherwise for some."""
    types = get_type_hints(RunArguments)
    for name in names:
        default = getattr(RunArguments(), name)
        flag: dict[str, Any] = {"help": FIELDS[name].metadata["help"], "default": default}
        if types[name] is bool:
            flag["action"] = "store_true"
        elif types[name] == list[int]:
            flag |= {"type": int, "nargs": "+"}
        else:
            flag["type"] = (*get_args(types[name]), types[name])[0]  # of X | None it is X
        if default is not None and default is not False:
            flag["help"] += f" (default {' '.join(map(str, default)) if isinstance(default, list) else default})"
        p.add_argument(f"--{name}", **{**flag, **changed.get(name, {})})


def _sweep_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "launch plans the runs, says what they will take and runs those that are not done; status says how far they "
        "are, who runs which and why some failed; delete_incomplete deletes all that are not done. The last two "
        "take --datasets and --algorithms to narrow what they look at."
    )
    p.add_argument("action", choices=["launch", "status", "delete_incomplete"])
    p.add_argument("--datasets", nargs="+", help=f"default for launch: {' '.join(DATASETS)}")
    p.add_argument("--algorithms", nargs="+", help="default for launch: the twelve standard ones")
    p.add_argument(
        "--n_hparams",
        type=int,
        help=f"rows of the search, row 0 the defaults (default {Sweep.n_hparams}; 1 under a protocol without a search)",
    )
    p.add_argument("--n_hparams_from", type=int, default=0, help="first row (default 0)")
    p.add_argument("--n_trials", type=int, default=3, help="trials, each with its own splits (default 3)")
    p.add_argument("--pairs", action="store_true", help="also leave out two environments, for cross-validation")
    p.add_argument("--single_test_envs", action="store_true", help="DomainBed's flag for what is the default here")
    _run_flags(
        p,
        OF_A_SWEEP,
        output_dir={"required": True, "help": "folder of the sweep, with a folder in it for each run"},
        hparams={"help": "JSON object; each algorithm takes those that it has"},
    )
    p.add_argument("--command_launcher", default="local", help=f"{' or '.join(launchers())} (default %(default)s)")
    for name, one in options().items():
        kind: dict[str, Any] = {} if "type" in one.metadata else {"action": argparse.BooleanOptionalAction}
        p.add_argument(f"--{name}", default=one.default, **one.metadata, **kind)
    p.add_argument("--dry_run", action="store_true", help="print what would be run, and run nothing")
    p.add_argument("--skip_confirmation", action="store_true", help="do not ask")
    p.add_argument("--format", default="text", choices=["text", "json"], help="of status (default %(default)s)")
    p.add_argument("--watch", action="store_true", help="show the status until no run is left to do, or Ctrl-C")


def _collect_parser(p: argparse.ArgumentParser) -> None:
    p.add_argument("--input_dir", required=True, help="folder of a sweep, ours or DomainBed's")
    _report_flags(p, list(METHODS))


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
    p.add_argument(
        "--verbose", action="store_true", help="text: all selection methods, differences by environment, explanations"
    )
    p.add_argument("--output", help="file to write to instead of printing")
    p.add_argument(
        "--command",
        dest="command_of",
        metavar="CELL",
        help="print the runs behind a cell, DATASET/ALGORITHM/COLUMN, and the commands that repeat them",
    )
    p.add_argument(
        "--figures", metavar="DIR", help="draw figures into this folder, as PNG, SVG and PDF (extra `plots`)"
    )


def _data_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "check decodes every image and says which are corrupt, writing nothing; cache decodes them into the cache that "
        "runs read; info says what is there."
    )
    p.add_argument("action", choices=["check", "cache", "info"])
    p.add_argument("--dataset", required=True, help="a benchmark, or folder:PATH")
    _run_flags(p, [*names_of(Role.DATA), "skip_corrupt"])


def _paper_parser(p: argparse.ArgumentParser) -> None:
    p.description = "The domain-generalization rows of BatchFormer's tables, each with the command that reproduces it."
    p.add_argument("--table", type=int, help="6, 7, 14 or 15 (default: all)")
    p.add_argument("--data_dir", default="DATA", help="put into the commands (default %(default)s)")
