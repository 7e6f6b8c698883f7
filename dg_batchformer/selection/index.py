"""What was read of a sweep's folder, kept there so that the next call reads only what has changed since.

An entry holds as long as the files of its run have the inode, size and both times that they had before they were read,
and were then at least `SETTLED_NS` old by the clock of their own file system: a file that is written twice within the
grain of its clock cannot pass for unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from dg_batchformer.data import benchmarks
from dg_batchformer.runs import records
from dg_batchformer.runs.records import Problem, RunKey
from dg_batchformer.selection import columns, reading, runs
from dg_batchformer.selection.reading import UNREADABLE, Reading
from dg_batchformer.selection.runs import Run

INDEX = ".dg-batchformer-index.npz"
SETTLED_NS = 3 * 10**9
ABANDONED_NS = 3600 * 10**9
"""After which nobody is writing an index any more."""

ABSENT = (0, 0, 0, 0)

ARRAYS = ("steps", "inside", "out", "macro")
"""Of all runs, one after the other."""

Stamp = tuple[int, ...]
"""Whether a run's `done` is there, and of its results.jsonl and its job.json the inode, size and both times."""


@dataclass(frozen=True)
class Entry:
    """A run's folder as it was read, and the stamp that its files had before."""

    stamp: Stamp
    reading: Reading


def stamp_of(input_dir: Path, name: str) -> Stamp:
    """The present stamp of a folder in the sweep's; zeros where it has none of the files."""
    path = f"{input_dir}/{name}"
    done = os.path.exists(f"{path}/{records.DONE}")
    return (done, *_stamp(f"{path}/{records.RESULTS}"), *_stamp(f"{path}/{records.JOB}"))


def _stamp(path: str) -> Stamp:
    try:
        stat = os.stat(path)
    except OSError:
        return ABSENT
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def lasting(entry: Entry, now_ns: int) -> bool:
    """Whether a run was done, and its files, read at `now_ns`, old enough for a later change to show in their stamp.

    What could not be read may be read the next time, though nothing in the stamp has changed.
    """
    done, stamp = entry.stamp[0], entry.stamp
    is_settled = max(stamp[3], stamp[4], stamp[7], stamp[8]) < now_ns - SETTLED_NS
    return bool(done) and is_settled and all(problem.kind != UNREADABLE for problem in entry.reading.problems)


@contextlib.contextmanager
def begun(input_dir: Path) -> Iterator[tuple[Path | None, int]]:
    """A file beside the index to write a new one to, and the time by the folder's clock; None where nothing can be."""
    path = input_dir / f"{INDEX}-{uuid.uuid4().hex[:8]}"
    try:
        path.touch(exist_ok=False)
        now_ns = path.stat().st_mtime_ns
    except OSError:
        yield None, 0
        return
    try:
        yield path, now_ns
    finally:
        path.unlink(missing_ok=True)


@functools.cache
def written_by() -> str:
    """A hash of the code that reads runs and knows the benchmarks, and so of what it makes of them."""
    modules = (records, benchmarks, runs, columns, reading, sys.modules[__name__])
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    return hashlib.sha256(code).hexdigest()


def load(input_dir: Path) -> dict[str, Entry]:
    """The entries of a folder's index by the names of runs' folders; none where other code wrote its index."""
    try:
        with (input_dir / INDEX).open("rb") as file:
            return read(file, input_dir) or {}
    except OSError:
        return {}


def read(file: BinaryIO, input_dir: Path) -> dict[str, Entry] | None:
    """What `write` wrote to a file; None where this code did not write it, or not all of it."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            text = msgspec.json.decode(arrays["text"].tobytes())
            if text["written_by"] != written_by():
                return None
            values = {name: arrays[name] for name in ARRAYS}
        return _entries(input_dir, text, values)
    except Exception:  # what a torn or foreign file raises nobody can list, and it only saves time
        return None


def _entries(input_dir: Path, text: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Entry]:
    entries, row, value = {}, 0, 0
    for name, stamp, own, planned, problems in text["runs"]:
        run, folder = None, str(input_dir / name)
        if own:
            key, n, n_environments, shared, of_run = own
            end = value + n * n_environments
            inside, out, macro = (arrays[part][value:end].reshape(n, n_environments) for part in ARRAYS[1:])
            dataset, algorithm, test_envs, *rest = key
            whole = RunKey(dataset, algorithm, tuple(test_envs), *rest)
            steps = arrays["steps"][row : row + n]
            run = Run(whole, folder, steps, inside, out, macro, text["shared"][shared], of_run)
            row, value = row + n, end
        # A message begins with the path, which may have changed.
        said = tuple(Problem(kind, f"{folder}{rest}") for kind, rest in problems)
        entries[name] = Entry(tuple(stamp), Reading(run, planned, said))
    return entries


def save(path: Path, input_dir: Path, entries: Mapping[str, Entry], now_ns: int) -> None:
    """Writes the entries to `path`, which then takes the index's place; those that may not last are left out.

    Where that fails there is no index: it only saves time.
    """
    kept = {name: entry for name, entry in entries.items() if lasting(entry, now_ns)}
    with contextlib.suppress(OSError, RecursionError, TypeError, ValueError):
        with path.open("wb") as file:
            write(file, input_dir, kept)
        os.replace(path, input_dir / INDEX)
        _remove_abandoned(input_dir, now_ns)


def write(file: BinaryIO, input_dir: Path, entries: Mapping[str, Entry]) -> None:
    """Writes entries by the names of runs' folders."""
    shared: dict[bytes, int] = {}
    rows, counted = [], []
    for name, entry in entries.items():
        run = entry.reading.run
        own = None
        if run:
            counted.append(run)
            number = shared.setdefault(msgspec.json.encode(run.shared), len(shared))
            key = tuple(vars(run.key).values())
            own = (key, len(run.steps), run.n_environments, number, run.own)
        start = len(str(input_dir / name))
        problems = [(problem.kind, problem.text[start:]) for problem in entry.reading.problems]
        rows.append((name, entry.stamp, own, entry.reading.planned, problems))
    text = {"written_by": written_by(), "shared": [msgspec.json.decode(one) for one in shared], "runs": rows}
    arrays = {name: _joined(counted, name) for name in ARRAYS}
    np.savez(file, text=np.frombuffer(msgspec.json.encode(text), dtype=np.uint8), **arrays)


def _remove_abandoned(input_dir: Path, now_ns: int) -> None:
    """Removes what writers that were killed have left."""
    for path in input_dir.glob(f"{INDEX}-*"):
        if path.stat().st_mtime_ns < now_ns - ABANDONED_NS:
            path.unlink()


def _joined(runs: list[Run], name: str) -> Any:
    return np.concatenate([getattr(run, name).ravel() for run in runs]) if runs else np.empty(0)
