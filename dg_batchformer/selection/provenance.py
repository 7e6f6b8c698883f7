"""From a cell of the table back to its runs, and to the commands that repeat them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dg_batchformer.errors import InputError, unknown
from dg_batchformer.registry import split_name
from dg_batchformer.runs.arguments import command_line
from dg_batchformer.selection.methods import Choice
from dg_batchformer.selection.read import FinishedRun
from dg_batchformer.selection.report import Report, Result
from dg_batchformer.selection.table import Row

OURS = ("python", "-m", "dg_batchformer", "train")
DOMAINBED = ("python", "-m", "domainbed.scripts.train")
DOMAINBED_WITH_VARIANTS = ("python", "-m", "dg_batchformer.domainbed", "train")


def command(run: FinishedRun) -> str:
    """The command that repeats a run, ours or DomainBed's, into a folder `repeat/` of its own."""
    args = {**run.args, "output_dir": f"repeat/{Path(run.folder).name}"}
    if "protocol" in args:
        program: Sequence[str] = OURS
    else:
        program = DOMAINBED_WITH_VARIANTS if split_name(run.key.algorithm)[1] else DOMAINBED
    return command_line(program, args)


def name(result: Result, row: Row, column: str) -> str:
    """What a cell is called: DATASET/ALGORITHM/COLUMN."""
    return f"{result.section.dataset}/{row.label}/{column}"


def explain(report: Report, cell: str) -> list[str]:
    """What stands behind the cells of a name, of all tables: their runs, checkpoints and commands.

    DATASET/ALGORITHM/COLUMN names the rows with all given hparams where none is labelled so. InputError where no cell
    is called so.
    """
    known = [(name(*one), one) for one in _all_cells(report)]
    found = [one for called, one in known if called == cell]
    found = found or [one for _, one in known if cell == f"{one[0].section.dataset}/{one[1].algorithm}/{one[2]}"]
    if not found:
        nearest = unknown("cell", cell, dict.fromkeys(called for called, _ in known))
        raise InputError(f"--command: {nearest} (expected DATASET/ALGORITHM/COLUMN)")
    return [line for one in found for line in (*_explained(*one), "")][:-1]


def _all_cells(report: Report) -> Iterator[tuple[Result, Row, str]]:
    return ((one, row, column) for one in report.results for row in one.section.rows for column in row.cells)


def _explained(result: Result, row: Row, column: str) -> list[str]:
    cell = row.cells[column]
    mean = "no number" if cell.mean is None else f"{cell.mean:.4f}"
    error = "" if cell.error is None else f", {cell.error_kind} {cell.error:.4f}"
    lines = [
        f"{name(result, row, column)}: {mean}{error}" + (f" ({cell.missing})" if cell.missing else ""),
        f"  {result.title}; {result.caption}",
        *(f"  trial {trial}: {value:.4f}" for trial, value in cell.values.items()),
        *(line for choice in cell.choices for line in describe(choice)),
    ]
    if not cell.choices:
        lines.append("  no run of ours stands behind it")
    if row.command:
        lines += ["  this sweep repeats the published row:", f"    {row.command}"]
    return lines


def describe(choice: Choice) -> list[str]:
    """A chosen run, and the command that repeats it."""
    key = choice.run.key
    return [
        f"  trial {key.trial_seed}, hparams_seed {key.hparams_seed}, test_envs {list(key.test_envs)}, "
        f"step {choice.step}: accuracy {100 * choice.accuracy:.4f}, chosen by {100 * choice.validation:.4f}",
        f"    {choice.run.folder}",
        f"    {command(choice.run)}",
    ]
