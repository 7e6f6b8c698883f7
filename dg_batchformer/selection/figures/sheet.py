"""What all figures share: a sheet of a column's width with title, key and notes, its style, and its files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from dg_batchformer.selection.methods import ORACLE, TITLES
from dg_batchformer.selection.report import Result

WIDTH = 3.3
"""Inches: a column of a two-column paper. Put over a page's width the figure has text of twice the size."""
MARGIN = 0.05
LABELS = 1.15
"""Inches that a row's label has before it is broken into lines."""
LINE = 1.35 / 72
"""Inches between lines, for each point of the letters' size."""
TEXT, SMALL = 7.0, 6.0
"""Points."""
DPI = 200

INK, FAINT, ALARM = "#222222", "#767676", "#B3261E"
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
"""Okabe and Ito's palette for colour-blind readers, with a brown for its yellow, which is too light on paper."""

MARK = 1.3
"""Lines that the mark of an oracle takes."""
TEST_DATA = "USES TEST DATA: for comparison only, not a result"

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that figures are alike on all machines
    "font.size": SMALL,
    "text.color": INK,
    "text.parse_math": False,  # a $ is a $
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelpad": 2,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": SMALL,
    "axes.titlepad": 3,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "xtick.major.size": 2,
    "xtick.major.width": 0.5,
    "xtick.major.pad": 2,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.major.size": 2,
    "ytick.major.width": 0.5,
    "ytick.major.pad": 2,
}


KEY: dict[str, Any] = {
    "loc": "upper left",
    "frameon": False,
    "borderpad": 0,
    "borderaxespad": 0,
    "handlelength": 1.6,
    "handletextpad": 0.5,
    "columnspacing": 1.2,
    "labelspacing": 0.25,
}


def style() -> AbstractContextManager[None]:
    """The style of all figures, whatever the user's own; it ends with the context."""
    context: AbstractContextManager[None] = matplotlib.style.context(STYLE, after_reset=True)
    return context


class Sheet:
    """A figure with title and key at the top, notes at the foot, and between them `height` inches for axes.

    The title says what of which data is shown and by which method it was chosen, the foot ends with the setting, and
    `key` has the artists that explain the marks, by what they mean.
    """

    def __init__(self, result: Result, what: str, height: float, key: Mapping[str, Artist], notes: str) -> None:
        section = result.section
        inner = WIDTH - 2 * MARGIN
        data = "Averages over environments" if section.is_over_datasets else section.dataset
        title = wrapped(f"{data}: {what}", TEXT, inner, bold=True)
        method = wrapped(f"model selection: {TITLES[section.selection]}", SMALL, inner)
        setting = "; ".join(filter(None, [str(section.setting), result.given]))
        foot = wrapped(f"{notes} {setting}.", SMALL, inner)
        is_oracle = section.selection == ORACLE
        columns = _columns(list(key), inner)
        lines = -(-len(key) // columns)

        self._header = 2 * MARGIN + LINE * (TEXT * (len(title) + MARK * is_oracle) + SMALL * (len(method) + lines))
        self._total = self._header + height + LINE * SMALL * len(foot) + 2 * MARGIN
        self.figure = Figure((WIDTH, self._total))
        y = MARGIN
        if is_oracle:
            box = {"facecolor": ALARM, "edgecolor": "none", "boxstyle": "square,pad=0.2"}
            self._text(y + 0.2 * TEXT / 72, [TEST_DATA], TEXT, color="white", weight="bold", bbox=box)
            y += MARK * TEXT * LINE
        self._text(y, title, TEXT, weight="bold")
        y += TEXT * LINE * len(title)
        self._text(y, method, SMALL)
        y += SMALL * LINE * len(method) + MARGIN / 2
        anchor = MARGIN / WIDTH, 1 - y / self._total
        self.figure.legend(list(key.values()), list(key), bbox_to_anchor=anchor, ncols=columns, **KEY)
        self._text(self._header + height + MARGIN, foot, SMALL, color=FAINT)

    def axes(self, left: float, top: float, width: float, height: float, **kwargs: Any) -> Axes:
        """Axes whose upper left corner is so many inches from the sheet's left edge and from below its header."""
        bottom = self._total - self._header - top - height
        box = (left / WIDTH, bottom / self._total, width / WIDTH, height / self._total)
        axes: Axes = self.figure.add_axes(box, **kwargs)
        return axes

    def _text(self, top: float, lines: Sequence[str], size: float, **kwargs: Any) -> None:
        where = MARGIN / WIDTH, 1 - top / self._total
        self.figure.text(*where, "\n".join(lines), size=size, va="top", linespacing=LINE * 72 / 1.2, **kwargs)


def _columns(labels: Sequence[str], width: float) -> int:
    """How many of some labels stand in a line of the key, each with its mark."""
    widest = max((extent(label, SMALL) for label in labels), default=0.0)
    return max(1, min(len(labels), int(width / (widest + 0.35))))


def extent(text: str, size: float, *, bold: bool = False) -> float:
    """The width of a line of text in inches."""
    font = FontProperties(family=STYLE["font.family"], size=size, weight="bold" if bold else "normal")
    return float(TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def wrapped(text: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """The lines of a text that is to be so many inches wide, broken at spaces, after _, and if need be anywhere."""
    lines = [""]
    for piece in re.findall(r"\s*(?:[^\s_]+_*|_+)", text):
        if extent((lines[-1] + piece).lstrip(), size, bold=bold) <= width:
            lines[-1] += piece
            continue
        lines.append("")
        for character in piece.lstrip():
            if extent(lines[-1] + character, size, bold=bold) > width:
                lines.append("")
            lines[-1] += character
    return [line.strip() for line in lines if line]


def headings(titles: Sequence[str], width: float) -> tuple[list[str], float]:
    """The titles of panels, broken into lines of so many inches, and the height that all panels need for them."""
    broken = ["\n".join(wrapped(title, SMALL, width, bold=True)) for title in titles]
    return broken, 0.04 + LINE * SMALL * max(1 + title.count("\n") for title in broken)


def widest(labels: Sequence[str], size: float) -> float:
    """The width in inches of the widest line among some labels."""
    return max(extent(line, size) for label in labels for line in label.split("\n"))


def tint(color: str, share: float) -> tuple[float, float, float]:
    """A colour mixed with white, of which `share` is the colour."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(color))
    return red, green, blue


def write(figure: Figure, stem: Path, title: str) -> list[Path]:
    """Writes a figure as PNG and PDF without dates, so that the same figure gives the same files."""
    png, pdf = (stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "pdf"))
    figure.savefig(png, dpi=DPI, metadata={"Title": title})
    figure.savefig(pdf, metadata={"Title": title, "CreationDate": None})
    return [png, pdf]
