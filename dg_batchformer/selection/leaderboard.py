"""The leaderboard: runs of many folders and published rows, ranked by average where they can be compared.

Published rows are those of BatchFormer's paper, which the package carries, and those of a user's CSV file.
"""

import csv
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dg_batchformer import paper
from dg_batchformer.data import benchmark_of
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.runs.records import Problem
from dg_batchformer.selection import Collected
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.inference import USUAL, Rules
from dg_batchformer.selection.methods import METHODS, TRAINING_DOMAIN
from dg_batchformer.selection.report import Report, Result, report
from dg_batchformer.selection.settings import RowKey, Setting, environment_names
from dg_batchformer.selection.shots import Thresholds
from dg_batchformer.selection.table import AVERAGE, DERIVED, OVER, Row, Section

WITHOUT_RUNS = "published rows of a dataset or selection method without runs"
WITHOUT_COLUMN = "published numbers without a column"

PAPER = "paper"
NEEDED = ("dataset", "protocol", "backbone", "algorithm", "environment", "mean")
OPTIONAL = ("error", "error_kind", "source", "selection")
ERROR_KINDS = ("stderr", "std")
SURPLUS = "fields without a column"


@dataclass(frozen=True)
class Reference:
    """A published row: an algorithm's cells by environment and "Avg", source, and command to reproduce it."""

    setting: Setting
    algorithm: str
    source: str
    selection: str
    cells: Mapping[str, Cell]
    command: str = ""

    def row(self, columns: Sequence[str]) -> Row:
        """The row of a table; its average is the published one, else computed if all environments are given."""
        cells = {column: self.cells.get(column, Cell(missing="not published")) for column in columns}
        means = [cells[column].mean for column in columns if column not in OVER]
        known = [mean for mean in means if mean is not None]
        if cells[AVERAGE].mean is None and known and len(known) == len(means):
            cells[AVERAGE] = Cell(mean=sum(known) / len(known))
        label = f"{self.algorithm} ({self.source})"
        return Row(RowKey(self.algorithm), label, cells, source=self.source, command=self.command)


def load(name: str) -> list[Reference]:
    """The rows of the paper if `name` is "paper", else of a CSV file; an InputError lists all its errors."""
    return _of_paper() if name == PAPER else _of_file(Path(name))


def _of_paper() -> list[Reference]:
    """The paper gives standard deviations over runs, and selects by validation."""
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
    """The column name of an environment, from that name or its folder's."""
    if name.lower() == AVERAGE.lower():
        return AVERAGE
    benchmark = benchmark_of(dataset)
    return dict(zip(benchmark.folders, benchmark.environments, strict=False)).get(name, name) if benchmark else name


def _cell(mean: str, error: str | None, error_kind: str) -> Cell:
    return Cell(mean=float(mean), error=float(error) if error else None, error_kind=error_kind)


def _of_file(path: Path) -> list[Reference]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey=SURPLUS, skipinitialspace=True)
            columns = reader.fieldnames or ()
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--reference {path} cannot be read ({error}): expected `{PAPER}` or a CSV file") from error
    if lacking := [name for name in NEEDED if name not in columns]:
        raise InputError(
            f"--reference {path} has no column {', '.join(lacking)}: expected {', '.join(NEEDED)}; optional: "
            f"{', '.join(OPTIONAL)}"
        )
    problems = [] if lines else [f"--reference {path} has no line below its columns: expected published numbers"]
    found: dict[tuple[Setting, str, str, str], dict[str, Cell]] = {}
    for number, line in lines:
        if wrong := _problems(line):
            problems += [f"{path}:{number} {problem}" for problem in wrong]
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


def _problems(line: Mapping[str, Any]) -> list[str]:
    """The errors in a line of a user's file."""
    if SURPLUS in line:  # such as 79,9 for 79.9, which would be read as 79
        return ["has more fields than there are columns: expected quotes around a field with a comma in it"]
    problems = [f"has no {name}" for name in NEEDED if not line.get(name)]
    dataset, environment = line.get("dataset") or "", line.get("environment") or ""
    known = environment_names(dataset)
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


def leaderboard(
    collected: Collected,
    references: Sequence[Reference],
    ddof: int = 0,
    selections: Iterable[str] = (TRAINING_DOMAIN,),
    thresholds: Thresholds | None = None,
    rules: Rules = USUAL,
    columns: Sequence[str] = (),
) -> Report:
    """The report of collected runs with published rows among them, each table ranked by its average.

    A published row joins the runs of its dataset, protocol, backbone and selection method if these have the protocol's
    defaults otherwise. Else it gets a new table if its dataset has other runs, or if there are no runs at all;
    otherwise it is among the problems.
    """
    selections = list(selections)
    base = report(collected, ddof, selections, thresholds, rules, columns)
    sections = [one.section for one in base.results]
    wanted = {section.dataset for section in sections} or {reference.setting.dataset for reference in references}
    problems = list(base.problems)
    for reference in references:
        if reference.selection in selections and reference.setting.dataset in wanted:
            problems += _add(reference, sections)
        else:
            text = f"{reference.algorithm} on {reference.setting.dataset}, {reference.selection} ({reference.source})"
            problems.append(Problem(WITHOUT_RUNS, text))
    sections.sort(key=lambda one: (selections.index(one.selection), one.is_over_datasets, one.setting))
    results = [Result(ranked(section), rules) for section in sections]
    return dataclasses.replace(base, title="Leaderboard", results=results, problems=problems)


def _add(reference: Reference, sections: list[Section]) -> list[Problem]:
    """Adds a published row to the table of its setting, or to a new one; returns the numbers without a column."""
    for i, section in enumerate(sections):
        if (section.selection, section.setting) == (reference.selection, reference.setting):
            sections[i] = dataclasses.replace(section, rows=(*section.rows, reference.row(section.columns)))
            text = f"{reference.algorithm} on {reference.setting.dataset} ({reference.source})"
            strangers = [name for name in reference.cells if name not in section.columns]
            return [Problem(WITHOUT_COLUMN, f"{name}: {text}") for name in strangers]
    own = tuple(name for name in reference.cells if name not in DERIVED)
    columns = (*(environment_names(reference.setting.dataset) or own), *DERIVED)
    sections.append(Section(reference.selection, reference.setting, columns, (reference.row(columns),)))
    return []


def ranked(section: Section) -> Section:
    """The rows by falling printed average, with ranks; rows without an average come last and have no rank."""
    printed = [round(mean, 1) for row in section.rows if (mean := row.cells[AVERAGE].mean) is not None]
    rows = []
    for row in section.rows:
        mean = row.cells[AVERAGE].mean
        rank = None if mean is None else 1 + sum(other > round(mean, 1) for other in printed)
        rows.append(dataclasses.replace(row, rank=rank))
    return dataclasses.replace(section, rows=tuple(sorted(rows, key=lambda row: row.rank or len(rows) + 1)))
