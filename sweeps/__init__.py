"""A script for each benchmark: it runs the sweep and writes the table."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dg_batchformer import cli
from dg_batchformer.commands import reports
from dg_batchformer.selection.formats import render
from dg_batchformer.selection.report import report


def script(dataset: str, *defaults: str) -> Callable[[Sequence[str] | None], int]:
    """The `main` of a script that runs `sweep launch` on one dataset, then `collect`.

    It prints the table to report, and writes all tables as Markdown and as a page beside it. Its flags are those of
    `sweep launch` and override `defaults`; `--table FILE` names the Markdown file (default: `selection.md` in the
    output folder).
    """

    def main(argv: Sequence[str] | None = None) -> int:
        own = argparse.ArgumentParser(
            add_help=False,
            description=f"Runs a sweep on {dataset} and writes the selection table; same flags as `sweep launch`.",
        )
        own.add_argument("--output_dir", default=f"sweep_output/{dataset}")
        own.add_argument("--table")
        given, flags = own.parse_known_args(sys.argv[1:] if argv is None else argv)
        launch = ["sweep", "launch", "--datasets", dataset, "--output_dir", given.output_dir]
        status = cli.main([*launch, "--skip_confirmation", *defaults, *flags])
        if status > 1 or not Path(given.output_dir).is_dir():
            return status
        table = Path(given.table or Path(given.output_dir) / "selection.md")
        return cli.guarded(lambda: show([given.output_dir], table)) or status

    return main


def show(folders: Sequence[str], table: Path) -> int:
    """Writes the tables of sweeps as Markdown and as a page, and prints the table to report."""
    found = report(reports.read_runs(folders))
    reports.say_problems(found)
    page = table.with_suffix(".html")
    table.write_text(render(found, "markdown"), encoding="utf-8")
    page.write_text(render(found, "html"), encoding="utf-8")
    print(f"{render(found, 'text')}wrote {table} and {page}")
    return 0
