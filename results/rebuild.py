"""Rebuilds the tables of published results from the records of their runs: python results/rebuild.py (make results)

A folder beside this file has the records of its sweeps as `records.tar.xz`, and `reports.json` maps the name of each
report to its sweeps. A report has a folder with a table for every selection method, all of them as LaTeX, cells and
differences as CSV, and figures. Pages that quote a table are updated.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dg_batchformer.charts import draw
from dg_batchformer.selection import collect
from dg_batchformer.selection.blocks import about_new, interval, signed
from dg_batchformer.selection.formats import render
from dg_batchformer.selection.formats.json import document
from dg_batchformer.selection.inference import Interval
from dg_batchformer.selection.methods import METHODS, TRAINING_DOMAIN
from dg_batchformer.selection.report import Report, Result, report

HERE = Path(__file__).resolve().parent
RECORDS = "records.tar.xz"
FILES = {"latex": "tables.tex", "csv": "cells.csv", "differences": "differences.csv"}
QUOTED = re.compile(r"(<!-- table ([1-9]) of (\S+) -->\n\n)(?:(?!<!--).)*(\n<!-- end of table -->)", re.DOTALL)
GRID = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def main() -> None:
    for folder in published():
        for name, whole in reports(folder):
            write_tables(whole, folder / name)
            draw(document(chosen_by(TRAINING_DOMAIN, whole), with_curves=True), folder / name / "figures")
            print(f"wrote {folder.name}/{name}")
    for page in pages():
        page.write_text(quoting(page), encoding="utf-8")


def published() -> list[Path]:
    """The folders with records."""
    return sorted(path.parent for path in HERE.glob(f"*/{RECORDS}"))


def reports(folder: Path) -> Iterator[tuple[str, Report]]:
    """The reports of a folder by name; the working folder has its records, so that reports contain no path."""
    wanted = json.loads((folder / "reports.json").read_text(encoding="utf-8"))
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(folder / RECORDS) as archive:
        archive.extractall(scratch, filter="data")
        os.chdir(scratch)
        try:
            for name, sweeps in wanted.items():
                yield name, report(collect(list(map(Path, sweeps))))
        finally:
            os.chdir(here)


def chosen_by(selection: str, whole: Report) -> Report:
    """The part of a report under one selection method."""
    return dataclasses.replace(whole, results=[one for one in whole.results if one.section.selection == selection])


def write_tables(whole: Report, folder: Path) -> None:
    """Writes a Markdown table for every selection method and for the differences, and the files with all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for selection in METHODS:
        (folder / f"{selection}.md").write_text(render(chosen_by(selection, whole), "markdown"), encoding="utf-8")
    tables = map(by_environment, chosen_by(TRAINING_DOMAIN, whole).results)
    (folder / "by-environment.md").write_text("\n".join(tables), encoding="utf-8")
    for form, file in FILES.items():
        (folder / file).write_text(render(whole, form), encoding="utf-8")


def by_environment(result: Result) -> str:
    """A Markdown table of paired differences with 95 % intervals: by environment, by shot, over all environments.

    Those by environment and by shot are not corrected for several comparisons.
    """
    columns = (*result.section.own_columns, *result.section.shots)
    header = ["Variant - base", *columns, "These environments", "Verdict", "New environments"]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for one in result.comparisons:
        parts = [one.parts.get(name) for name in columns]
        cells = [shown(each.mean, each.these.interval() if each.these else None) if each else "" for each in parts]
        lines.append([one.name, *cells, shown(one.overall.mean, one.interval), one.verdict, about_new(one)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(mean: float | None, limits: Interval | None) -> str:
    return f"{signed(mean)} ({interval(limits)})"


def pages() -> list[Path]:
    """The pages that may quote tables."""
    return [HERE.parent / "README.md", *sorted(HERE.glob("*/README.md"))]


def quoting(page: Path) -> str:
    """A page with its quoted tables updated; a quote names the file and the number of the table in it."""

    def quoted(found: re.Match[str]) -> str:
        before, number, name, after = found.groups()
        return before + GRID.findall((HERE / name).read_text(encoding="utf-8"))[int(number) - 1] + after

    return QUOTED.sub(quoted, page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
