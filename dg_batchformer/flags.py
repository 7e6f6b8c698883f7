"""The flags of all commands; flags that DomainBed has keep its names.

The flags of a run derive from the fields of `RunArguments`, those of a launcher from the launcher's fields.
"""

import argparse
import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

from dg_batchformer.jobs.launchers import launchers, options
from dg_batchformer.jobs.plan import Sweep
from dg_batchformer.runs.arguments import FIELDS, Role, RunArguments, names_of
from dg_batchformer.selection import formats
from dg_batchformer.selection.inference import FAMILIES, ROPE, USUAL
from dg_batchformer.selection.methods import METHODS, TRAINING_DOMAIN

DATASETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita")

OF_A_SWEEP = [name for name in FIELDS if name not in names_of(Role.VARIED)]
"""The arguments that all runs of a sweep share."""


EXAMPLES = {
    "train": (
        "train --algorithm ERM_BatchFormer --test_envs 0",
        "train --dataset PACS --data_dir DATA --algorithm CORAL_BatchFormer --test_envs 3 --output_dir run",
    ),
    "sweep": (
        "sweep launch --datasets PACS --data_dir DATA --algorithms ERM ERM_BatchFormer --output_dir sweep",
        "sweep status --output_dir sweep --watch",
    ),
    "collect": (
        "collect --input_dir sweep",
        "collect --input_dir sweep --format html --output table.html",
    ),
    "leaderboard": (
        "leaderboard sweep older_sweep --reference paper",
        "leaderboard sweep --command PACS/ERM_BatchFormer/A",
    ),
    "power": (
        "power --input_dir sweep",
        "power --input_dir sweep --effect 0.7",
    ),
    "data": (
        "data check --dataset PACS --data_dir DATA",
        "data cache --dataset folder:DATA/mine",
    ),
    "check-algorithm": (
        "check-algorithm my_algorithms:WorstEnvironment",
        "check-algorithm LDAM --hparams '{\"lr\": 0.01}'",
    ),
    "paper": ("paper --table 14", "paper --table 6 --data_dir IMAGES"),
}
"""Two for each command; its help ends with them."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; its namespace has the command's name as `command`."""
    top = argparse.ArgumentParser(
        prog="dg-batchformer", description="BatchFormer for domain-generalization benchmarks."
    )
    commands = top.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for name, (add, summary) in COMMANDS.items():
        examples = "\n".join(f"  dg-batchformer {example}" for example in EXAMPLES[name])
        add(
            commands.add_parser(
                name,
                help=summary,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                epilog=f"examples:\n{examples}",
            )
        )
    return top


def arguments_of(cls: type, parsed: argparse.Namespace) -> dict[str, Any]:
    """The parsed flags that are fields of a dataclass."""
    return {one.name: getattr(parsed, one.name) for one in dataclasses.fields(cls) if hasattr(parsed, one.name)}


def _run_flags(
    p: argparse.ArgumentParser, names: Sequence[str], **changed: dict[str, Any]
) -> dict[str, argparse._ArgumentGroup]:
    """Adds the flags of a run's arguments and returns their groups; `changed` replaces settings of some."""
    types = get_type_hints(RunArguments)
    titles = dict.fromkeys(FIELDS[name].metadata["group"] for name in names)
    groups = {title: p.add_argument_group(title) for title in titles}
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
        groups[FIELDS[name].metadata["group"]].add_argument(f"--{name}", **{**flag, **changed.get(name, {})})
    return groups


def _train_parser(p: argparse.ArgumentParser) -> None:
    p.description = "Trains one algorithm with some environments left out. An interrupted run resumes."
    left_out = {
        "nargs": "*",
        "default": None,
        "help": f"{FIELDS['test_envs'].metadata['help']} (default 0; none of mdlt:)",
    }
    files = _run_flags(p, list(FIELDS), test_envs=left_out)["files"]
    files.add_argument("--overwrite", action="store_true", help="replace a finished run in the output folder")


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
        help=f"rows of the search, row 0 the defaults (default {Sweep.n_hparams}; 1 under a protocol without a search)",
    )
    runs.add_argument("--n_hparams_from", type=int, default=0, help="first row (default 0)")
    runs.add_argument("--n_trials", type=int, default=3, help="trials, each with its own splits (default 3)")
    runs.add_argument("--pairs", action="store_true", help="also leave out two environments, for cross-validation")
    runs.add_argument(
        "--single_test_envs",
        action="store_true",
        help="leave out single environments: the default, but for datasets with test splits",
    )
    _run_flags(
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


def _collect_parser(p: argparse.ArgumentParser) -> None:
    p.description = "The selection table of a sweep: text shows the table to report and what BatchFormer changed."
    p.add_argument("--input_dir", required=True, help="folder of a sweep, ours or DomainBed's")
    _report_flags(p, list(METHODS))


def _leaderboard_parser(p: argparse.ArgumentParser) -> None:
    p.description = textwrap.dedent("""\
        Ranks the algorithms of many sweeps and published rows, one table for each dataset and protocol.
        Results that cannot be compared stand in different tables; the output says why.""")
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
        help=f"selection methods: {', '.join(METHODS)} (default: {' '.join(selections)})",
    )
    p.add_argument(
        "--ddof",
        type=int,
        choices=[0, 1],
        default=0,
        help="delta degrees of freedom of standard errors (default 0, as DomainBed)",
    )
    p.add_argument(
        "--shots",
        nargs=2,
        type=int,
        metavar=("MANY", "FEW"),
        help="many-shot classes have more than MANY training images, few-shot ones at most FEW (default: the "
        "dataset's, 100 20 for most)",
    )
    p.add_argument(
        "--rope",
        type=float,
        default=ROPE,
        metavar="POINTS",
        help="region of practical equivalence: smaller differences count as none (default %(default)s)",
    )
    p.add_argument(
        "--family",
        choices=list(FAMILIES),
        default=USUAL.family,
        help="comparisons that intervals and p are corrected for: those of a modifier, of a table, or none "
        "(default %(default)s)",
    )
    p.add_argument("--format", default="text", choices=formats.names(), help="(default %(default)s)")
    p.add_argument(
        "--verbose", action="store_true", help="text: all selection methods, differences by environment, explanations"
    )
    p.add_argument("--output", help="file to write to instead of printing")
    p.add_argument(
        "--command",
        dest="command_of",
        metavar="CELL",
        help="print the runs behind a cell, DATASET/ALGORITHM/COLUMN, and their commands",
    )
    p.add_argument(
        "--figures", metavar="DIR", help="draw figures into this folder, as PNG, SVG and PDF (extra `plots`)"
    )


def _power_parser(p: argparse.ArgumentParser) -> None:
    p.description = textwrap.dedent("""\
        How large a difference the trials of a sweep can find, and how many trials find a given one.
        Found means: with a probability of 80 %, corrected for all comparisons of a modifier.""")
    p.add_argument("--input_dir", required=True, help="folder of a sweep, ours or DomainBed's")
    p.add_argument("--effect", type=float, default=1.0, help="true difference in points (default %(default)s)")
    p.add_argument("--selection", choices=list(METHODS), default=TRAINING_DOMAIN, help="(default %(default)s)")


def _data_parser(p: argparse.ArgumentParser) -> None:
    p.description = textwrap.dedent("""\
        check  decodes every image and lists the corrupt ones; writes nothing
        cache  decodes the images into the cache that runs read
        info   shows the environments, classes, images and caches""")
    p.add_argument("action", choices=["check", "cache", "info"])
    p.add_argument("--dataset", required=True, help=FIELDS["dataset"].metadata["help"])
    _run_flags(p, [*names_of(Role.DATA), "skip_corrupt"])


def _check_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "Runs an algorithm on random images and says, point by point, whether it trains, predicts, keeps its state, "
        "resumes, and takes each modifier. The status is 1 if it fails without a modifier."
    )
    p.add_argument("algorithm", help="a name or module:Class")
    p.add_argument("--hparams", default="{}", help="JSON object of hyper-parameters, in place of the defaults")
    p.add_argument("--image_size", type=int, default=32, help="width of the images (default %(default)s)")


def _paper_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "The rows of BatchFormer's tables on domain generalization, each with the command that reproduces it, and on "
        "long tails, each with what stands here for it."
    )
    p.add_argument("--table", type=int, help="1 to 4, 6, 7, 14, 15, 19 or 20 (default: all)")
    p.add_argument("--data_dir", default="DATA", help="data folder in the printed commands (default %(default)s)")


COMMANDS = {
    "train": (_train_parser, "one run"),
    "sweep": (_sweep_parser, "many runs: launch, status, delete_incomplete"),
    "collect": (_collect_parser, "the selection table of a sweep"),
    "leaderboard": (_leaderboard_parser, "a ranking of many sweeps and published rows"),
    "power": (_power_parser, "how many trials a sweep needs"),
    "data": (_data_parser, "the images of a benchmark: check, cache, info"),
    "check-algorithm": (_check_parser, "an algorithm on random images: what works"),
    "paper": (_paper_parser, "BatchFormer's published results, each with its command"),
}
"""Each command: the function that adds its flags, and its summary."""
