"""Lists of images in files: a CSV or JSON file, or a folder of text lists as in DomainBed-v2."""

import csv
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dg_batchformer.data.folders import EXTENSIONS
from dg_batchformer.errors import InputError

COLUMNS = ("env", "label", "path")
SPLITS = ("train", "val", "test")
NAMED = 10  # rows in a message


class Row(NamedTuple):
    """An image: its environment, label, path below the folder of images, split ("" if none), and place in the file."""

    env: str
    label: str
    path: str
    split: str = ""
    place: str = ""


def read(file: Path) -> list[Row]:
    """The images that a file or a folder of text lists names; an InputError lists all errors."""
    reader = of_folder if file.is_dir() else of_json if file.suffix == ".json" else of_csv
    rows, has_splits = reader(file)
    if problems := _problems(file, rows, has_splits=has_splits):
        raise InputError("\n".join(problems))
    return rows


def of_csv(file: Path) -> tuple[list[Row], bool]:
    """The rows of a CSV file with columns env, label, path and optionally split, and whether it has splits."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            table = csv.DictReader(opened)
            header = table.fieldnames or []
            lines = [{name: value for name, value in line.items() if name} for line in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} cannot be read as a CSV file ({error})") from error
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"{file} has no column {', '.join(missing)}: expected {','.join(COLUMNS)} and optionally split"
        )
    return [_row(line, f"line {number}") for number, line in enumerate(lines, start=2)], "split" in header


def of_json(file: Path) -> tuple[list[Row], bool]:
    """The rows of a JSON list of objects with the names of those columns, and whether any has a split."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a JSON file ({error})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{file} is not a JSON list of objects: expected objects with {', '.join(COLUMNS)}")
    rows = [_row(entry, f"entry {number}") for number, entry in enumerate(entries, start=1)]
    return rows, any(row.split for row in rows)


def of_folder(folder: Path) -> tuple[list[Row], bool]:
    """The rows of text lists, `<env>.txt` or `<env>_train.txt`, `_val` and `_test`, and whether there are splits.

    A line has a path, which may have spaces, and a label, as in DomainBed-v2 and Transfer-Learning-Library.
    """
    rows = []
    files = sorted(folder.glob("*.txt"))
    for file in files:
        env, split = _env_and_split(file)
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read as a text list ({error})") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                path, _, label = line.strip().rpartition(" ")
                rows.append(Row(env, label, path.strip(), split, f"{file.name} line {number}"))
    return rows, any(_env_and_split(file)[1] for file in files)


def _env_and_split(file: Path) -> tuple[str, str]:
    """The environment and split ("" if none) of a text list by its name."""
    found = re.fullmatch(rf"(.+)_({'|'.join(SPLITS)})", file.stem)
    return (found[1], found[2]) if found else (file.stem, "")


def _row(values: dict[str, Any], place: str) -> Row:
    given = {name: str(values[name]).strip() for name in (*COLUMNS, "split") if values.get(name) is not None}
    return Row(**{**dict.fromkeys(COLUMNS, ""), **given}, place=place)


def _problems(file: Path, rows: Sequence[Row], *, has_splits: bool) -> list[str]:
    """The errors of the rows, each with the places of its first rows."""
    found: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, str] = {}
    for row in rows:
        if not (row.env and row.label and row.path):
            found["incomplete rows (expected env, label and path)"].append(row.place)
        elif has_splits and row.split not in SPLITS:
            found[f"invalid splits (expected {', '.join(SPLITS)})"].append(f"{row.place} has {row.split!r}")
        if os.path.isabs(row.path) or ".." in Path(row.path).parts or not row.path.lower().endswith(EXTENSIONS):
            found["invalid paths (expected relative paths of images)"].append(f"{row.place} has {row.path!r}")
        if (earlier := seen.setdefault(row.path, row.place)) != row.place:
            found["duplicate paths"].append(f"{row.path} in {earlier} and {row.place}")
    environments = sorted({row.env for row in rows})
    problems = [f"{file}: {len(own)} {what}: {listed(own)}" for what, own in found.items()]
    if len(environments) < 2:
        problems.append(f"{file} has {len(environments)} environment(s): expected at least 2")
    if has_splits and not found:
        problems += [f"{file} has {problem}" for problem in _without_images(rows, environments)]
    return problems


def _without_images(rows: Sequence[Row], environments: Sequence[str]) -> Iterator[str]:
    """The splits of environments that have no image."""
    present = {(row.env, row.split) for row in rows}
    for env in environments:
        for split in SPLITS:
            if (env, split) not in present:
                yield f"no {split} image of environment {env}: expected images of every split, or no column split"


def listed(texts: Sequence[str]) -> str:
    """The first of some texts, and the number of the others."""
    more = f"; and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return "; ".join(texts[:NAMED]) + more
