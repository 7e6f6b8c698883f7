"""Published results: those of BatchFormer's paper, which the package carries, and those of a user's CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dg_batchformer import paper
from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.methods import METHODS, TRAINING_DOMAIN
from dg_batchformer.selection.read import environment_names
from dg_batchformer.selection.settings import Setting
from dg_batchformer.selection.table import AVERAGE, DERIVED

PAPER = "paper"
NEEDED = ("dataset", "protocol", "backbone", "algorithm", "environment", "mean")
OPTIONAL = ("error", "error_kind", "source", "selection")
ERROR_KINDS = ("stderr", "std")
SURPLUS = "fields without a column"


@dataclass(frozen=True)
class Reference:
    """A published row: an algorithm's cells by environment, "Avg" among them, their origin, and what repeats them."""

    setting: Setting
    algorithm: str
    source: str
    selection: str
    cells: Mapping[str, Cell]
    command: str = ""


def load(name: str) -> list[Reference]:
    """The rows of the paper, where `name` is that, else of a CSV file; an InputError lists what is wrong with it."""
    return _of_paper() if name == PAPER else _of_file(Path(name))


def _of_paper() -> list[Reference]:
    """The paper gives standard deviations over runs, and chooses by validation."""
    references = []
    for row in paper.rows():
        others = (("schedule", "the paper's own"),) if row.is_own_baseline else ()
        cells = {
            _environment(row.dataset, entry["environment"]): _cell(entry["mean"], entry["std"], "std")
            for entry in row.entries
        }
        setting = Setting(row.dataset, row.protocol, row.backbone, others)
        source = f"paper, table {row.table}"
        references.append(Reference(setting, row.algorithm, source, TRAINING_DOMAIN, cells, row.command("DATA")))
    return references


def _environment(dataset: str, name: str) -> str:
    """An environment by the name of its column, given that or its folder's."""
    if name.lower() == AVERAGE.lower():
        return AVERAGE
    benchmark = BENCHMARKS.get(dataset)
    names = dict(zip(benchmark.folders, benchmark.environments, strict=True)) if benchmark and benchmark.folders else {}
    return names.get(name, name)


def _of_file(path: Path) -> list[Reference]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey=SURPLUS, skipinitialspace=True)
            columns = reader.fieldnames or ()
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--reference {path} cannot be read ({error}): expected `{PAPER}` or a CSV file") from error
    lacking = [name for name in NEEDED if name not in columns]
    if lacking:
        raise InputError(
            f"--reference {path} has no column {', '.join(lacking)}: expected {', '.join(NEEDED)}, and if wanted "
            f"{', '.join(OPTIONAL)}"
        )
    problems = [] if lines else [f"--reference {path} has no line below its columns: expected published numbers"]
    found: dict[tuple[Setting, str, str, str], dict[str, Cell]] = {}
    for number, line in lines:
        wrong = _problems(line)
        problems += [f"{path}:{number} {problem}" for problem in wrong]
        if wrong:
            continue
        setting = Setting(line["dataset"], line["protocol"], line["backbone"])
        source, selection = line.get("source") or path.name, line.get("selection") or TRAINING_DOMAIN
        own = found.setdefault((setting, line["algorithm"], source, selection), {})
        environment = _environment(line["dataset"], line["environment"])
        if environment in own:
            problems.append(f"{path}:{number} repeats {line['algorithm']} on {line['dataset']} {environment}")
        own[environment] = _cell(line["mean"], line.get("error"), line.get("error_kind") or ERROR_KINDS[0])
    if problems:
        raise InputError("\n".join(problems))
    return [Reference(*key, cells) for key, cells in found.items()]


def _cell(mean: str, error: str | None, error_kind: str) -> Cell:
    return Cell.from_published(float(mean), float(error) if error else None, error_kind)


def _problems(line: Mapping[str, Any]) -> list[str]:
    """What is wrong with a line of a user's file."""
    if SURPLUS in line:  # such as of 79,9 for 79.9, which would be read as 79
        return ["has more fields than there are columns: expected quotes around a field with a comma in it"]
    problems = [f"has no {name}" for name in NEEDED if not line.get(name)]
    dataset, environment = line.get("dataset") or "", line.get("environment") or ""
    known = environment_names(dataset, [])
    if known and environment and _environment(dataset, environment) not in (*known, *DERIVED):
        problems.append(f"has {unknown(f'environment of {dataset}', environment, (*known, *DERIVED))}")
    for name in ("mean", "error"):
        text = line.get(name)
        if text and not 0 <= _number(text) <= 100:
            problems.append(f"has {name} {text!r}: expected a number of percent from 0 to 100")
    for name, allowed in (("error_kind", ERROR_KINDS), ("selection", tuple(METHODS))):
        text = line.get(name)
        if text and text not in allowed:
            problems.append(f"has {unknown(name, text, allowed)}")
    return problems


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
