"""The files in the folder of a run: their names (DomainBed's), and how to write and read them."""

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
"""Files with fixed names that a run writes; a repeated run replaces them."""

JOB = "job.json"
"""The arguments of a run, in each folder of a sweep: together they are the plan of the sweep."""

LIVE = "live.json"
"""The progress of a running run, for `sweep status`."""

ERROR_LINES = 3
TAIL_BYTES = 8192
"""Bytes read at once from the end of a file: a record, or the end of an error."""


def append(path: Path, record: dict[str, Any]) -> None:
    """Adds a record as one line, in one write."""
    line = json.dumps(record, sort_keys=True) + "\n"
    with path.open("ab") as file:
        file.write(line.encode("utf-8"))


def write_whole(path: Path, text: str) -> None:
    """Writes a small file completely or not at all."""
    _put(path, text, os.replace)


def write_once(path: Path, text: str) -> None:
    """Writes a small file like `write_whole`, but keeps an existing one: of several writers one succeeds."""
    if path.exists():
        return
    try:
        _put(path, text, os.link)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links: of several writers at the same moment the last one wins
        write_whole(path, text)


def _put(path: Path, text: str, put: Callable[[Path, Path], None]) -> None:
    # Two launchers may write the same file.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def set_aside(path: Path) -> str:
    """Renames a file of records so that no run reads or replaces it; returns the new name, a hash of the content."""
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
    """The last non-empty lines of a log; reads only the end of it."""
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
            # The first one may be half a line.
            if len(lines) > n or start == 0:
                return lines[-n:]
            size *= 4
