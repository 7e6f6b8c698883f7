"""The report for a README or a wiki."""

from __future__ import annotations

from collections.abc import Sequence

from dg_batchformer.selection.formats.wording import (
    COMPARISON_COLUMNS,
    ORACLE_FENCE,
    comparison_cells,
    comparison_name,
    comparison_sentences,
    comparison_title,
    edge_sentences,
    leading_columns,
    legend,
    printed_rows,
)
from dg_batchformer.selection.methods import ORACLE
from dg_batchformer.selection.report import Report, Result
from dg_batchformer.selection.table import Section

MARKS = {1: "**{}**", 2: "<u>{}</u>"}


def markdown(report: Report) -> str:
    """The tables under one another, the best of a column bold and the second underlined."""
    parts: list[str] = []
    for result in report.results:
        if result.section.selection == ORACLE and not any(ORACLE_FENCE in part for part in parts):
            parts.append(f"---\n\n> {ORACLE_FENCE}")
        parts += _result(result)
    notes = [*legend(report), *report.apart]
    return "\n\n".join([*parts, " ".join(map(_plain, notes))]) + "\n"


def _result(result: Result) -> list[str]:
    parts = [f"### {_plain(result.title)}"]
    if result.lacking:
        return [*parts, _plain(result.lacking)]
    section = result.section
    parts += [_plain(result.caption), _grid([*leading_columns(section), *section.columns], _rows(section), section)]
    parts += [_list(edge_sentences(result))]
    if result.comparisons:
        columns = ["Variant - base", *section.own_columns, *COMPARISON_COLUMNS]
        rows = [
            [_plain(comparison_name(one)), *comparison_cells(one, section.own_columns)] for one in result.comparisons
        ]
        parts += [
            f"{comparison_title(result)}, pair by pair:",
            _grid(columns, rows),
            _list(comparison_sentences(result)),
        ]
    return [part for part in parts if part]


def _rows(section: Section) -> list[list[str]]:
    return [
        [*map(_plain, first), *(MARKS.get(place, "{}").format(text) for text, place in cells)]
        for first, cells in printed_rows(section)
    ]


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]], section: Section | None = None) -> str:
    n_left = len(leading_columns(section)) if section else 1
    rule = "|" + "---|" * n_left + "---:|" * (len(header) - n_left)
    lines = ["| " + " | ".join(row) + " |" for row in [list(map(_plain, header)), *rows]]
    return "\n".join([lines[0], rule, *lines[1:]])


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(sentence)}" for sentence in sentences)


def _plain(text: str) -> str:
    """Text of which nothing is taken for markup."""
    for character in "\\|*<>`":
        text = text.replace(character, f"\\{character}")
    return text
