"""The report for a paper."""

import re

from dg_batchformer.selection.blocks import Fence, Grid, Lacking, blocks, legend
from dg_batchformer.selection.report import Report

BOLD = r"\textbf{{{}}}"

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


def render(report: Report) -> str:
    """A table environment for each table; the first line names the packages that it needs.

    The best of a column is bold, with those not significantly different. A table wider than the text is scaled down.
    """
    parts = ["\n".join([PREAMBLE, *(f"% {sentence}" for sentence in legend(report))])]
    for block in blocks(report):
        match block:
            case Fence(text):
                parts.append(f"% {text}.")
            case Lacking(title, text):
                parts.append(f"% {escaped(title)}: {escaped(text)}")
            case Grid():
                parts.append(_table(block))
    return "\n\n".join([*parts, *(f"% {escaped(sentence)}" for sentence in report.apart)]) + "\n"


def _table(grid: Grid) -> str:
    caption = f"{grid.title}; {grid.caption}. Bold: the best, and those not significantly different."
    if grid.is_of_changes:
        caption = (
            f"{grid.title}, in points, with equal environment, trial and hparams_seed ({grid.caption}). "
            "95 % intervals for these environments and for new ones; p: t-test over trials."
        )
    rows = [[*(escaped(name).replace(" - ", " -- ") for name in grid.left), *map(escaped, grid.columns)]]
    rows += [
        [*map(escaped, line.left), *((BOLD if best else "{}").format(_number(text)) for text, best in line.numbers)]
        for line in grid.lines
    ]
    header, *lines = (" & ".join(row) + r" \\" for row in rows)
    return "\n".join(
        [
            *(f"% {note}" for note in grid.notes),
            r"\begin{table}",
            rf"\caption{{{escaped(caption)}}}",
            r"\centering",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(grid.left)}{'r' * len(grid.columns)}}}",
            r"\toprule",
            header,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def escaped(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _number(text: str) -> str:
    """Escaped text with a minus sign before negative numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped(text))
