"""The leaderboard: runs of many folders and published rows, ranked by average where they can be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from dg_batchformer.runs.records import Problem
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.collect import Collected
from dg_batchformer.selection.given import RowKey
from dg_batchformer.selection.methods import TRAINING_DOMAIN
from dg_batchformer.selection.read import environment_names
from dg_batchformer.selection.references import Reference
from dg_batchformer.selection.report import Report, Result, apart, report
from dg_batchformer.selection.table import AVERAGE, DERIVED, Row, Section

WITHOUT_RUNS = "published rows of a dataset or selection method without runs"
WITHOUT_COLUMN = "published numbers of environments that their table does not have"


def leaderboard(
    collected: Collected,
    references: Sequence[Reference],
    ddof: int = 0,
    selections: Iterable[str] = (TRAINING_DOMAIN,),
) -> Report:
    """The report of collected runs with published rows among them, each table ranked by its average.

    A published row joins the runs of its dataset, protocol, backbone and selection method; where these differ in
    anything else from the protocol's usual they stay apart. Rows of a dataset of which there are other runs get a
    table of their own; those of other datasets do too where there are no runs at all, and else are among the problems.
    """
    selections = list(selections)
    base = report(collected, ddof, selections)
    sections = [one.section for one in base.results]
    wanted = {section.dataset for section in sections} or {reference.setting.dataset for reference in references}
    problems = list(base.problems)
    for reference in references:
        if reference.selection in selections and reference.setting.dataset in wanted:
            problems += _add(reference, sections)
        else:
            text = f"{reference.algorithm} on {reference.setting.dataset}, {reference.selection} ({reference.source})"
            problems.append(Problem(WITHOUT_RUNS, text))
    order = {selection: i for i, selection in enumerate(selections)}
    sections.sort(key=lambda one: (order[one.selection], one.is_over_datasets, one.setting))
    results = [Result(ranked(section)) for section in sections]
    return dataclasses.replace(base, title="Leaderboard", results=results, problems=problems, apart=apart(sections))


def _add(reference: Reference, sections: list[Section]) -> list[Problem]:
    """Puts a published row into the table that it can be compared in, or into one of its own; what finds no column."""
    for i, section in enumerate(sections):
        if (section.selection, section.setting) == (reference.selection, reference.setting):
            sections[i] = dataclasses.replace(section, rows=(*section.rows, _row(reference, section.columns)))
            strangers = [name for name in reference.cells if name not in section.columns]
            text = f"{reference.algorithm} on {reference.setting.dataset} ({reference.source})"
            return [Problem(WITHOUT_COLUMN, f"{name}: {text}") for name in strangers]
    own = tuple(name for name in reference.cells if name not in DERIVED)
    columns = (*(environment_names(reference.setting.dataset, []) or own), *DERIVED)
    sections.append(Section(reference.selection, reference.setting, columns, (_row(reference, columns),)))
    return []


def _row(reference: Reference, columns: Sequence[str]) -> Row:
    """A published row; its average is the one published, else the mean of its environments where all are there."""
    cells = {column: reference.cells.get(column, Cell(missing="not published")) for column in columns}
    means = [cells[column].mean for column in columns if column not in DERIVED]
    known = [mean for mean in means if mean is not None]
    if cells[AVERAGE].mean is None and known and len(known) == len(means):
        cells[AVERAGE] = Cell(mean=sum(known) / len(known))
    label = f"{reference.algorithm} ({reference.source})"
    return Row(RowKey(reference.algorithm), label, cells, source=reference.source, command=reference.command)


def ranked(section: Section) -> Section:
    """The rows by falling average, as printed, with their ranks; those without one come last and have none."""
    means = [row.cells[AVERAGE].mean for row in section.rows]
    printed = [None if mean is None else round(mean, 1) for mean in means]
    order = sorted((mean for mean in printed if mean is not None), reverse=True)
    ranks = [None if mean is None else order.index(mean) + 1 for mean in printed]
    rows = [dataclasses.replace(row, rank=rank) for row, rank in zip(section.rows, ranks, strict=True)]
    return dataclasses.replace(section, rows=tuple(sorted(rows, key=lambda row: row.rank or len(rows) + 1)))
