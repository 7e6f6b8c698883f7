"""From a cell of the table back to its runs, and to the commands that repeat them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dg_batchformer.errors import InputError
from dg_batchformer.registry import split_name
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.methods import Choice
from dg_batchformer.selection.report import Report, Result
from dg_batchformer.selection.runs import Run
from dg_batchformer.selection.table import Row
from dg_batchformer.training.arguments import command_line

OURS = ("python", "-m", "dg_batchformer", "train")
DOMAINBED = ("python", "-m", "domainbed.scripts.train")
DOMAINBED_WITH_VARIANTS = ("python", "-m", "dg_batchformer.domainbed", "train")


def command(run: Run) -> str:
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

    InputError where no cell is called so.
    """
    lines = []
    known = []
    for result, row, column in _all_cells(report):
        known.append(name(result, row, column))
        if cell in (known[-1], f"{result.section.dataset}/{row.algorithm}/{column}"):
            lines += [*_explained(result, row.cells[column], known[-1]), ""]
    if not lines:
        first = "; ".join(dict.fromkeys(known[:3]))
        raise InputError(f"--command {cell} names no cell: expected DATASET/ALGORITHM/COLUMN, such as {first}")
    return lines[:-1]


def _all_cells(report: Report) -> Iterator[tuple[Result, Row, str]]:
    return ((one, row, column) for one in report.results for row in one.section.rows for column in row.cells)


def _explained(result: Result, cell: Cell, called: str) -> list[str]:
    mean = "no number" if cell.mean is None else f"{cell.mean:.4f}"
    error = "" if cell.error is None else f", {cell.error_kind} {cell.error:.4f}"
    lines = [
        f"{called}: {mean}{error}" + (f" ({cell.missing})" if cell.missing else ""),
        f"  {result.title}; {result.caption}",
        *(f"  trial {trial}: {value:.4f}" for trial, value in cell.values.items()),
        *(line for choice in cell.choices for line in describe(choice)),
    ]
    return lines if cell.choices else [*lines, "  no run of ours stands behind it"]


def describe(choice: Choice) -> list[str]:
    """A chosen run, and the command that repeats it."""
    key = choice.run.key
    return [
        f"  trial {key.trial_seed}, hparams_seed {key.hparams_seed}, test_envs {list(key.test_envs)}, "
        f"step {choice.step}: accuracy {100 * choice.accuracy:.4f}, chosen by {100 * choice.validation:.4f}",
        f"    {choice.run.folder}",
        f"    {command(choice.run)}",
    ]
