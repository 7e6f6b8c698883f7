"""Seconds and peak memory of the selection table of a generated sweep, ours against DomainBed's.

    python benchmarks/table.py --domainbed DomainBed --folder FOLDER

`DomainBed` is a checkout (or the environment variable DOMAINBED) whose imports are installed
(`pip install 'dg-batchformer[fidelity]'`). FOLDER is filled once and kept, by default it is a temporary one: 28,800
runs in DomainBed's layout (12 algorithms, 4 datasets, each environment and each pair left out, 20 draws of
hyper-parameters, 3 trials) with 17 checkpoints each, whose accuracies are drawn. All records are read once before, so
that nobody waits for the disk; seconds and memory are those of the whole command, and both tables have to show the same
numbers.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from common import environments, header, ratios, spread
from generated import MARK, STEPS, Shape, generate, sweep

SELECTION = ["--selection", "training-domain", "leave-one-domain-out", "oracle"]
"""DomainBed's methods."""

COMMANDS = {
    "ours": ["-m", "dg_batchformer", "collect", *SELECTION, "--format", "csv", "--input_dir"],
    "DomainBed": ["-m", "domainbed.scripts.collect_results", "--input_dir"],
}
"""What is measured in each turn."""
METHODS = {
    "training-domain validation set": "training-domain",
    "leave-one-domain-out cross-validation": "leave-one-domain-out",
    "test-domain validation set (oracle)": "oracle",
}
Key = tuple[str, ...]
"""Selection method, dataset, algorithm, environment."""


@dataclass(frozen=True)
class Measured:
    """What a command took and printed; with status 0 it came to its end, else it was killed at the limit."""

    seconds: float
    mib: float
    status: int
    printed: str

    @property
    def more(self) -> str:
        return "more than " if self.status else ""


def measure(command: Sequence[object], environment: Mapping[str, str], folder: Path, limit_minutes: float) -> Measured:
    """A command in a process of its own; one that fails ends the benchmark."""
    output = folder / "printed"
    words = [sys.executable, *map(str, command)]
    watched = [sys.executable, str(Path(__file__).with_name("peak.py")), str(60 * limit_minutes), str(output), *words]
    done = subprocess.run(watched, env=environment, capture_output=True, text=True, check=True)
    measured = Measured(**json.loads(done.stdout), printed=output.read_text())
    if measured.status and measured.seconds < 60 * limit_minutes:
        raise SystemExit(f"{done.stderr[-4000:]}\nended with status {measured.status}: {' '.join(words)}")
    return measured


def forget(folder: Path) -> None:
    """Removes what earlier calls left beside the runs: DomainBed's copy of its table."""
    for path in folder.iterdir():
        if path.name != MARK and not path.is_dir():
            path.unlink()


def our_cells(printed: str) -> dict[Key, tuple[float, ...]]:
    """Mean and error of each cell that DomainBed has too of our table as CSV, without the averages over datasets."""
    cells = [cell for cell in csv.DictReader(printed.splitlines()) if cell["dataset"] != "Avg"]
    names = ("selection", "dataset", "algorithm", "environment")
    return {
        tuple(cell[name] for name in names): (float(cell["mean"]), float(cell["error"]))
        for cell in cells
        if cell["environment"] not in ("Worst", "Macro")
    }


def their_cells(printed: str) -> dict[Key, tuple[float, ...]]:
    """The same of DomainBed's tables, which give averages no error."""
    cells: dict[Key, tuple[float, ...]] = {}
    for line in printed.splitlines():
        if line.startswith("--------"):
            about, _, method = line.removeprefix("-------- ").partition(", model selection method: ")
        elif line.startswith("Algorithm"):
            columns = line.split()[1:]
        elif "+/-" in line and about.startswith("Dataset: "):
            algorithm, *values = line.replace(" +/- ", "±").split()
            for column, value in zip(columns, values, strict=True):
                key = METHODS[method], about.removeprefix("Dataset: "), algorithm, column
                cells[key] = tuple(map(float, value.split("±")))
    return cells


def differing(ours: Mapping[Key, tuple[float, ...]], theirs: Mapping[Key, tuple[float, ...]]) -> list[Key]:
    """Cells that are missing in one table, or whose printed numbers differ."""
    return [
        key
        for key in sorted(ours.keys() | theirs.keys())
        if key not in ours
        or key not in theirs
        or any(abs(own - other) > 0.0501 for own, other in zip(ours[key], theirs[key], strict=False))
    ]


def take_turn(
    folder: Path, scratch: Path, environment: Mapping[str, dict[str, str]], limit: float
) -> dict[str, Measured]:
    """Our call and DomainBed's; ends the benchmark where the tables are not the same."""
    forget(folder)
    took: dict[str, Measured] = {}
    for side, command in COMMANDS.items():
        took[side] = one = measure([*command, folder], environment[side], scratch, limit)
        print(f"{side:9} {one.more}{one.seconds:.1f} s, {one.more}{one.mib:.0f} MiB", flush=True)
    ours, theirs = took.values()
    if ours.status:
        raise SystemExit("ours took longer than --limit_minutes: expected a limit for DomainBed's alone")
    if not theirs.status:
        cells = their_cells(theirs.printed)
        wrong = differing(our_cells(ours.printed), cells)
        if wrong or not cells:
            raise SystemExit(f"{len(wrong)} of {len(cells)} cells differ from DomainBed's: {wrong[:10]}")
        print(f"all {len(cells)} cells are DomainBed's to the printed decimal", flush=True)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--domainbed", default=os.environ.get("DOMAINBED"))
    parser.add_argument("--folder", type=Path, help="where the sweep is, or is made (default: a temporary folder)")
    for field in fields(Shape):
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help=f"default {field.default}")
    parser.add_argument("--limit_minutes", type=float, default=60, help="DomainBed's is killed then (default 60)")
    parser.add_argument("--turns", type=int, default=1)
    args = parser.parse_args()
    print(header(args), flush=True)
    shape = Shape(args.algorithms, args.datasets, args.n_hparams, args.n_trials)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        environment = environments(args.domainbed, scratch)
        folder = args.folder or scratch / "sweep"
        generate(folder, shape)
        runs = sum(1 for _ in sweep(shape))
        size = sum(len(path.read_bytes()) for path in folder.glob("*/results.jsonl"))
        print(f"{runs} runs, {runs * len(STEPS)} records, {size / 1e6:.0f} MB", flush=True)
        turns = [take_turn(folder, scratch, environment, args.limit_minutes) for _ in range(args.turns)]
    for unit, of in (("seconds", "seconds"), ("memory", "mib")):
        theirs, own = ([getattr(turn[side], of) for turn in turns] for side in ("DomainBed", "ours"))
        more = max(turn["DomainBed"].more for turn in turns)
        print(f"ratio of {unit}, DomainBed's to ours: {more}{spread(ratios(theirs, own))}")


if __name__ == "__main__":
    main()
