"""The table as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from dg_batchformer.selection.methods import TITLES
from dg_batchformer.selection.pairs import differences
from dg_batchformer.selection.table import AVERAGE, Cell, Section, entries
from dg_batchformer.training.protocols import DOMAINBED

LEGEND = (
    "Accuracy in percent on the in-split (80 % unless the runs say otherwise) of the environment left out; out-splits "
    "choose the checkpoint and the hyper-parameters. Mean ± standard error (ddof 0) over trials; each trial has its "
    "own splits and, in a random search, its own draw of hyper-parameters. Avg is the mean over the columns. A row "
    "that begins with 'change' is the variant less its base, trial by trial."
)
TLLIB_LEGEND = " Under protocol tllib the accuracy is that on all images of the environment left out."


def legend(sections: Sequence[Section]) -> str:
    """What the numbers of the sections are."""
    return LEGEND + TLLIB_LEGEND * any(section.protocol == "tllib" for section in sections)


def title(section: Section) -> str:
    """What a section shows, its selection method and its trials."""
    what = "averages over environments" if section.dataset == AVERAGE else section.dataset
    what += "" if section.protocol == DOMAINBED else f", protocol {section.protocol}"
    most = max((cell.n for cells in section.rows.values() for cell in cells.values()), default=0)
    trials = "1 trial, so no standard error" if most == 1 else f"{most} trials"
    return f"{what}, model selection: {TITLES[section.selection]}" + (f"; {trials}" if most else "")


def cell_text(cell: Cell, plus_minus: str = "±", *, signed: bool = False) -> str:
    """A cell's mean and standard error, and in brackets what is missing."""
    if not cell.n:
        return f"({cell.missing or 'no run'})"
    text = f"{cell.mean:+.1f}" if signed else f"{cell.mean:.1f}"
    if cell.n > 1:
        text += f" {plus_minus} {cell.stderr:.1f}"
    return f"{text} ({cell.missing})" if cell.missing else text


def lines(section: Section, plus_minus: str = "±") -> list[list[str]]:
    """A section's rows as text, each pair followed by what BatchFormer changed."""
    changed = differences(section)
    rows = []
    for algorithm, cells in section.rows.items():
        rows.append([algorithm, *(cell_text(cells[column], plus_minus) for column in section.columns)])
        if algorithm in changed:
            base, change = changed[algorithm]
            texts = (cell_text(change[column], plus_minus, signed=True) for column in section.columns)
            rows.append([f"change from {base}", *texts])
    return rows


def nothing(section: Section) -> str | None:
    """What a section lacks as a whole, where none of its cells has a number."""
    cells = [cell for row in section.rows.values() for cell in row.values()]
    if any(cell.n for cell in cells):
        return None
    reasons = {name: cell.missing for row in section.rows.values() for name, cell in row.items() if name != AVERAGE}
    return "no number: " + "; ".join(dict.fromkeys(reasons.values()))


def text(sections: Sequence[Section]) -> str:
    """For a terminal."""
    file = io.StringIO()
    # As wide as it needs to be: a terminal wraps, a pipe must not cut.
    console = Console(file=file, width=1000, highlight=False, markup=False)
    for section in sections:
        console.print(title(section))
        if lacking := nothing(section):
            console.print(f"  {lacking}\n")
            continue
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("Algorithm")
        for column in section.columns:
            table.add_column(column, justify="right")
        for row in lines(section):
            table.add_row(*row)
        console.print(table)
    below = textwrap.fill(legend(sections), 100)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + f"\n{below}\n"


def markdown(sections: Sequence[Section]) -> str:
    """For a README or a wiki."""
    parts = []
    for section in sections:
        if lacking := nothing(section):
            parts.append(f"### {title(section)}\n\n{lacking}")
            continue
        rule = "|---|" + "---:|" * len(section.columns)
        rows = ["| " + " | ".join(row) + " |" for row in [["Algorithm", *section.columns], *lines(section)]]
        parts.append("\n".join([f"### {title(section)}", "", rows[0], rule, *rows[1:]]))
    return "\n\n".join([*parts, legend(sections)]) + "\n"


def latex(sections: Sequence[Section]) -> str:
    """For a paper; needs the package booktabs."""
    parts = []
    for section in sections:
        if lacking := nothing(section):
            parts.append(f"% {title(section)}: {lacking}")
            continue
        rows = [" & ".join(map(_escaped, row)) + r" \\" for row in lines(section, "$\\pm$")]
        header = " & ".join(_escaped(name) for name in ("Algorithm", *section.columns)) + r" \\"
        parts.append(
            "\n".join(
                [
                    f"% {title(section)}",
                    r"\begin{tabular}{l" + "c" * len(section.columns) + "}",
                    r"\toprule",
                    header,
                    r"\midrule",
                    *rows,
                    r"\bottomrule",
                    r"\end{tabular}",
                ]
            )
        )
    return "\n\n".join([*parts, f"% {legend(sections)}"]) + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("_", r"\_").replace("%", r"\%").replace("#", r"\#")


def csv_table(sections: Sequence[Section]) -> str:
    """One line a cell that has a number."""
    file = io.StringIO()
    names = ["selection", "protocol", "dataset", "algorithm", "environment", "mean", "stderr", "n"]
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries(sections))
    return file.getvalue()


def json_table(sections: Sequence[Section]) -> str:
    """A list of the cells that have a number."""
    return json.dumps(entries(sections), indent=1) + "\n"


FORMATS: dict[str, Callable[[Sequence[Section]], str]] = {
    "text": text,
    "markdown": markdown,
    "latex": latex,
    "csv": csv_table,
    "json": json_table,
}
