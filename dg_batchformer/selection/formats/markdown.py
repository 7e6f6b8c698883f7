"""The report for a README or a wiki."""

from dg_batchformer.selection.blocks import Fence, Grid, Lacking, blocks, legend
from dg_batchformer.selection.report import Report


def render(report: Report) -> str:
    """All tables; the best of a column is bold, with those not significantly different."""
    parts: list[str] = []
    for block in blocks(report):
        match block:
            case Fence(text):
                parts.append(f"---\n\n> {text}")
            case Lacking(title, text):
                parts += [f"### {_plain(title)}", _plain(text)]
            case Grid(title, caption):
                plain = _plain(title)
                parts += [f"{plain}, pair by pair:"] if block.is_of_changes else [f"### {plain}", _plain(caption)]
                parts.append(_grid(block))
                parts += ["\n".join(f"- {_plain(note)}" for note in block.notes)] if block.notes else []
    notes = [*legend(report), *report.apart]
    return "\n\n".join([*parts, " ".join(map(_plain, notes))]) + "\n"


def _grid(grid: Grid) -> str:
    rows = [list(map(_plain, (*grid.left, *grid.columns)))]
    rows += [
        [*map(_plain, line.left), *(f"**{text}**" if best else text for text, best in line.numbers)]
        for line in grid.lines
    ]
    header, *lines = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([header, "|" + "---|" * len(grid.left) + "---:|" * len(grid.columns), *lines])


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    for character in "\\|*<>`":
        text = text.replace(character, f"\\{character}")
    return text
