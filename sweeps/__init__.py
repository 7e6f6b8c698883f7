"""One runnable script a benchmark: launch its sweep, wait, write the table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dg_batchformer import cli


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
    failed = cli.main([*launch, "--skip_confirmation", *defaults, *flags])
    if failed > 1:
        return failed
    table = given.table or str(Path(given.output_dir) / "selection.md")
    written = cli.main(["collect", "--input_dir", given.output_dir, "--format", "markdown", "--output", table])
    return cli.main(["collect", "--input_dir", given.output_dir]) or written or failed
