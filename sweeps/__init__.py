"""One runnable script a benchmark: launch its sweep, wait, write the table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dg_batchformer import cli
from dg_batchformer.selection.formats import render
from dg_batchformer.selection.report import report


def launch_and_collect(dataset: str, argv: Sequence[str] | None, defaults: Sequence[str] = ()) -> int:
    """Runs `sweep launch` on one dataset, then `collect`; prints the table and writes it as Markdown.

    Flags in `argv` are those of `sweep launch`, and win over `defaults`; `--table FILE` names the Markdown file
    (default: `selection.md` in the output folder).
    """
    own = argparse.ArgumentParser(
        add_help=False,
        description=f"Sweeps {dataset} and writes the selection table; flags as `sweep launch`.",
    )
    own.add_argument("--output_dir", default=f"sweep_output/{dataset}")
    own.add_argument("--table")
    given, flags = own.parse_known_args(sys.argv[1:] if argv is None else argv)
    launch = ["sweep", "launch", "--datasets", dataset, "--output_dir", given.output_dir]
    status = cli.main([*launch, "--skip_confirmation", *defaults, *flags])
    if status > 1 or not Path(given.output_dir).is_dir():
        return status
    table = Path(given.table or Path(given.output_dir) / "selection.md")
    return cli.guarded(lambda: show(Path(given.output_dir), table)) or status


def show(output_dir: Path, table: Path) -> int:
    """Writes the table of a sweep as Markdown and prints it."""
    found = report(cli.read_runs([str(output_dir)]))
    cli.say_problems(found)
    table.write_text(render(found, "markdown"), encoding="utf-8")
    print(f"{render(found, 'text')}wrote {table}")
    return 0
