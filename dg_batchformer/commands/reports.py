"""Commands that read results: tables, rankings, power, and the paper's rows."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dg_batchformer import machine
from dg_batchformer.commands.flags import Command
from dg_batchformer.errors import InputError
from dg_batchformer.selection import formats
from dg_batchformer.selection.inference import FAMILIES, ROPE, USUAL
from dg_batchformer.selection.measures import MEASURES
from dg_batchformer.selection.methods import METHODS, TRAINING_DOMAIN

if TYPE_CHECKING:
    from dg_batchformer.selection import Collected
    from dg_batchformer.selection.inference import Rules
    from dg_batchformer.selection.report import Report
    from dg_batchformer.selection.shots import Thresholds


def _collect_parser(p: argparse.ArgumentParser) -> None:
    p.description = "The selection table of a sweep: text shows the table to report and what BatchFormer changed."
    p.add_argument("--input_dir", required=True, help="folder of a sweep, ours or DomainBed's")
    _report_flags(p, list(METHODS))


@machine.without_garbage_collection()
def collect(arguments: argparse.Namespace) -> int:
    """The selection table of a sweep."""
    from dg_batchformer.selection.report import report

    collected = read_runs([arguments.input_dir])
    return publish(report(collected, *how(arguments)), arguments)


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


@machine.without_garbage_collection()
def leaderboard(arguments: argparse.Namespace) -> int:
    """The ranking of many sweeps and published rows."""
    from dg_batchformer.selection import leaderboard

    published = [row for name in arguments.reference for row in leaderboard.load(name)]
    collected = read_runs(arguments.runs)
    return publish(leaderboard.leaderboard(collected, published, *how(arguments)), arguments)


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
        "--columns",
        nargs="+",
        choices=list(MEASURES),
        default=[],
        metavar="COLUMN",
        help=f"additional columns: {', '.join(MEASURES)} (all but gap need runs with --save_predictions)",
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


def how(arguments: argparse.Namespace) -> tuple[int, Sequence[str], Thresholds | None, Rules, Sequence[str]]:
    """The arguments of a report."""
    from dg_batchformer.selection.inference import Rules

    if not arguments.rope >= 0:
        raise InputError(f"--rope is {arguments.rope}: expected at least 0 points, such as 0.5")
    rules, columns = Rules(arguments.rope, arguments.family), [MEASURES[name] for name in arguments.columns]
    return arguments.ddof, arguments.selection, thresholds(arguments), rules, list(dict.fromkeys(columns))


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


def _paper_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "The rows of BatchFormer's tables on domain generalization, each with the command that reproduces it, and on "
        "long tails, each with what stands here for it."
    )
    p.add_argument("--table", type=int, help="1 to 4, 6, 7, 14, 15, 19 or 20 (default: all)")
    p.add_argument("--data_dir", default="DATA", help="data folder in the printed commands (default %(default)s)")


def paper(arguments: argparse.Namespace) -> int:
    """The rows of the paper with their commands."""
    from dg_batchformer.paper import listing

    print(listing(arguments.table, arguments.data_dir), end="")
    return 0


COMMANDS = (
    Command(
        "collect",
        "the selection table of a sweep",
        _collect_parser,
        collect,
        (
            "collect --input_dir sweep",
            "collect --input_dir sweep --format html --output table.html",
        ),
    ),
    Command(
        "leaderboard",
        "a ranking of many sweeps and published rows",
        _leaderboard_parser,
        leaderboard,
        (
            "leaderboard sweep older_sweep --reference paper",
            "leaderboard sweep --command PACS/ERM_BatchFormer/A",
        ),
    ),
    Command(
        "power",
        "how many trials a sweep needs",
        _power_parser,
        power,
        (
            "power --input_dir sweep",
            "power --input_dir sweep --effect 0.7",
        ),
    ),
    Command(
        "paper",
        "BatchFormer's published results, each with its command",
        _paper_parser,
        paper,
        (
            "paper --table 14",
            "paper --table 6 --data_dir IMAGES",
        ),
    ),
)
