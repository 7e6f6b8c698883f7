"""The files in the folder of a run: their names, DomainBed's, and how they are written and read."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS, PROGRESS, MODEL, OUT, ERR = "results.jsonl", "progress.jsonl", "model.pkl", "out.txt", "err.txt"
DONE, FAILED = "done", "failed"
WRITTEN = (DONE, FAILED, RESULTS, PROGRESS, OUT, ERR, MODEL)
"""Files of fixed names that a run writes and its repetition replaces."""

JOB = "job.json"
"""In each run's folder of a sweep: its arguments, so that the folder says what the sweep consists of."""

LIVE = "live.json"
"""Where a run is while it lasts, for `sweep status`."""

ERROR_LINES = 3
TAIL_BYTES = 8192
"""Bytes read at once of the end of a file: a record, or the end of an error."""


def append(path: Path, record: dict[str, Any]) -> None:
    """Adds a record as one line, in one write."""
    line = json.dumps(record, sort_keys=True) + "\n"
    with path.open("ab") as file:
        file.write(line.encode("utf-8"))


def write_whole(path: Path, text: str) -> None:
    """Writes a small file so that it is there whole or not at all."""
    _put(path, text, os.replace)


def write_once(path: Path, text: str) -> None:
    """Writes a small file as `write_whole` does, but keeps one that exists: of several at once one succeeds."""
    if path.exists():
        return
    try:
        _put(path, text, os.link)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links: of several at the same instant the last one's stands
        write_whole(path, text)


def _put(path: Path, text: str, put: Callable[[Path, Path], None]) -> None:
    # Two launchers may write the same.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def set_aside(path: Path) -> str:
    """Renames a file of records so that no run reads or replaces it; returns its new name, a hash of its content."""
    aside = path.with_name(f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.aside")
    os.replace(path, aside)
    return aside.name


def is_json(lines: bytes) -> bool:
    """Whether each line is a JSON value."""
    try:
        for line in lines.splitlines():
            json.loads(line)
    except ValueError:
        return False
    return True


def last_lines(path: Path, n: int = ERROR_LINES) -> list[str]:
    """The last non-empty lines of a log; reads no more of it than they take."""
    size = TAIL_BYTES
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with file:
        end = file.seek(0, os.SEEK_END)
        while True:
            start = max(0, end - size)
            file.seek(start)
            lines = file.read(end - start).decode("utf-8", errors="replace").splitlines()
            lines = [line for line in lines if line.strip()]
            # The first of them may be half a line.
            if len(lines) > n or start == 0:
                return lines[-n:]
            size *= 4
