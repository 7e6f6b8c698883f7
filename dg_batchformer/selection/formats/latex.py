"""The report for a paper."""

from __future__ import annotations

import re
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

MARKS = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}

SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "±": r"$\pm$",
}

PREAMBLE = r"% In the preamble: \usepackage{booktabs} \usepackage{graphicx}"


def latex(report: Report) -> str:
    """A table environment for each table; needs the packages that its first line names.

    The best of a column is bold and the second underlined. A table too wide for the text is scaled down to it.
    """
    parts = ["\n".join([PREAMBLE, *(f"% {sentence}" for sentence in legend(report))])]
    for result in report.results:
        if result.section.selection == ORACLE and not any(ORACLE_FENCE in part for part in parts):
            parts.append(f"% {ORACLE_FENCE}.")
        parts += _result(result)
    return "\n\n".join([*parts, *(f"% {escaped(sentence)}" for sentence in report.apart)]) + "\n"


def _result(result: Result) -> list[str]:
    if result.lacking:
        return [f"% {escaped(result.title)}: {escaped(result.lacking)}"]
    section = result.section
    leading = leading_columns(section)
    rows = [
        [*map(escaped, first), *(MARKS.get(place, "{}").format(escaped(text)) for text, place in cells)]
        for first, cells in printed_rows(section)
    ]
    caption = f"{result.title}; {result.caption}. Best in bold, second underlined."
    tables = [_table("l" * len(leading), [*leading, *section.columns], rows, caption, edge_sentences(result))]
    if result.comparisons:
        columns = ["Variant -- base", *section.own_columns, *COMPARISON_COLUMNS]
        changes = [
            [escaped(comparison_name(one)), *map(_number, comparison_cells(one, section.own_columns))]
            for one in result.comparisons
        ]
        what = (
            f"{comparison_title(result)}, in points, with equal environment, trial and hparams_seed ({result.title}; "
            f"{result.caption}). 95 %: bootstrap over trials and environments. p: paired t-test, Holm-corrected."
        )
        tables.append(_table("l", columns, changes, what, comparison_sentences(result)))
    return tables


def _table(left: str, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, notes: Sequence[str]) -> str:
    lines = [" & ".join(row) + r" \\" for row in [list(map(escaped, header)), *rows]]
    return "\n".join(
        [
            *(f"% {note}" for note in notes),
            r"\begin{table}",
            rf"\caption{{{escaped(caption)}}}",
            r"\centering",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{left}{'r' * (len(header) - len(left))}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def escaped(text: str) -> str:
    """Text of which LaTeX takes nothing for a command."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _number(text: str) -> str:
    """Escaped text with a minus where a number has a hyphen."""
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped(text))
