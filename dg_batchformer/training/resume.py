"""Resume files: all that an interrupted run needs to go on as if nothing had happened.

A file is called `resume-N-HASH.pt`, N being the updates done and HASH that of its content. It is there whole or not at
all, holds tensors and plain values only, and the last two are kept: one that is torn, or of another run, is set aside
by name, and the run goes on from the one before.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

KEPT = 2
VERSION = 1


def save(folder: Path, n_updates: int, identity: str, state: dict[str, Any]) -> None:
    """Writes the state of a run after so many updates; `identity` says which run it is."""
    buffer = io.BytesIO()
    torch.save({"version": VERSION, "identity": identity, "state": state}, buffer)
    content = buffer.getvalue()
    path = folder / f"resume-{n_updates}-{digest(content)}.pt"
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:  # a full disk needs its space
        partial.unlink(missing_ok=True)
        raise
    for old in newest_first(folder)[KEPT:]:
        old.unlink()


def load(folder: Path, identity: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The last sound state of a run in its folder, if there is one, and what was set aside and why."""
    notes: list[str] = []
    for path in newest_first(folder):
        problem, state = read(path, identity)
        if state is not None:
            return state, notes
        notes.append(f"{path.name} {problem}: it was set aside as {set_aside(path)}")
    return None, notes


def set_aside(path: Path) -> str:
    """Renames a resume file so that no run goes on from it; returns its new name."""
    aside = path.with_suffix(".aside")
    os.replace(path, aside)
    return aside.name


def read(path: Path, identity: str) -> tuple[str, dict[str, Any] | None]:
    """The state in a resume file, or what is wrong with it."""
    content = path.read_bytes()
    if digest(content) != path.stem.rpartition("-")[2]:
        return "is torn", None
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if found["version"] != VERSION:
        return f"is of version {found['version']}, not {VERSION}", None
    if found["identity"] != identity:
        return "is of another run, or of other data", None
    return "", found["state"]


def newest_first(folder: Path) -> list[Path]:
    """The resume files of a run, that of the most updates first."""
    return sorted(folder.glob("resume-*-*.pt"), key=lambda path: int(path.stem.split("-")[1]), reverse=True)


def clear(folder: Path) -> None:
    """Deletes the resume files of a run that needs them no more."""
    for path in [*folder.glob("resume-*.pt"), *folder.glob("resume-*.partial"), *folder.glob("resume-*.aside")]:
        path.unlink(missing_ok=True)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
