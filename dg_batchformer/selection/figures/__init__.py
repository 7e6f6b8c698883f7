"""Static figures of a report, for a paper or a talk: accuracies, paired differences, and learning curves."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dg_batchformer.errors import InputError
from dg_batchformer.selection.report import Report, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 120
"""Characters of a file's name, which encrypted file systems take too."""


def draw(report: Report, folder: Path) -> list[Path]:
    """Draws the figures of a report into a folder, each as PNG and PDF; returns the files.

    Raises InputError where matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"--figures needs matplotlib ({error}): run pip install 'dg-batchformer[plots]'") from error
    from dg_batchformer.selection.figures.sheet import style, write

    folder.mkdir(parents=True, exist_ok=True)
    used: set[str] = set()
    paths = []
    results = [result for result in report.results if not result.lacking]
    one_setting = len({result.section.setting.on("") for result in results}) == 1
    with style():
        for result in results:
            for kind, figure in figures(result):
                what = kind if one_setting else [*setting_parts(result), *kind]
                paths += write(figure, folder / stem(result, what, used), result.title)
    return paths


def figures(result: Result) -> Iterator[tuple[list[str], Figure]]:
    """The figures of a result that has numbers, with what each shows."""
    from dg_batchformer.selection.figures import bars, curves, forest

    yield ["bars"], bars.figure(result)
    if any(comparison.overall.n for comparison in result.comparisons):
        yield ["forest"], forest.figure(result)
    for labels, figure in curves.figures(result):
        yield ["curves", *labels], figure


def setting_parts(result: Result) -> list[str]:
    """What sets the results of a report apart, beside the dataset."""
    setting = result.section.setting
    return [setting.protocol, setting.backbone, *(part for pair in setting.others for part in pair)]


def stem(result: Result, kind: Sequence[str], used: set[str]) -> str:
    """A file's name without its ending, of letters that all file systems take; it is added to those `used`.

    One that is too long or taken, in upper or lower case, ends in a digest.
    """
    parts = [result.section.selection, result.section.dataset, *kind]
    name = "-".join(filter(None, map(plain, parts)))
    if len(name) > LONGEST or name.lower() in used:
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
        name = f"{name[: LONGEST - 9]}-{digest}"
    used.add(name.lower())
    return name


def plain(text: str) -> str:
    """A text in letters of English, digits and single other signs."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._]+|\.{2,}", "-", ascii_text).strip("-._")
