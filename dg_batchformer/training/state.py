"""The state of a run: all that an interrupted one needs to go on as if nothing had happened.

A saved state is a file `resume-N-HASH.pt`, N being the updates done and HASH that of its content. It is there whole or
not at all, holds tensors and plain values only, and the last two are kept: one that is torn, or of another run, is set
aside by name, and the run resumes from the one before.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dg_batchformer.optimizers import optimizers_by_name
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.runs.records import Record
from dg_batchformer.training.compute import Schedule, Values

KEPT = 2
VERSION = 1

OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has, which its `state_dict` covers."""


@dataclass
class RunState:
    """What the rest of a run depends on: `n_updates` are done, and a checkpoint may be due after the last of them.

    A segment is what lies between two checkpoints; `values` are those of its updates.
    """

    algorithm: Any
    schedule: Schedule | None = None
    n_updates: int = 0
    checkpoint_due: bool = False
    record: Record = field(default_factory=dict)
    values: Values = field(default_factory=Values)
    last_values: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    segment_started: float = field(default_factory=time.monotonic)
    segment_images: int = 0

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and plain values, the global generators' included."""
        now = time.monotonic()
        return {
            "n_updates": self.n_updates,
            "checkpoint_due": self.checkpoint_due,
            "algorithm": algorithm_state(self.algorithm),
            "schedule": self.schedule.state() if self.schedule else None,
            "random": random_state(),
            "record": self.record,
            "values": self.values.read(),
            "steps": self.values.steps,
            "last_values": self.last_values,
            "seconds": now - self.started,
            "segment_seconds": now - self.segment_started,
            "segment_images": self.segment_images,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes in what `state_dict` gave, of an algorithm that was constructed alike."""
        restore_algorithm(self.algorithm, state["algorithm"])
        if self.schedule:
            self.schedule.restore(state["schedule"])
        for name in ("n_updates", "checkpoint_due", "record", "last_values", "segment_images"):
            setattr(self, name, state[name])
        self.values = Values(state["steps"], state["values"])
        now = time.monotonic()
        self.started, self.segment_started = now - state["seconds"], now - state["segment_seconds"]
        restore_random_state(state["random"])


def is_plain(value: Any) -> bool:
    """Whether a value can stand in a file that is safe to load."""
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(one) for key, one in value.items())
    if type(value) in (list, tuple):
        return all(is_plain(one) for one in value)
    return value is None or type(value) in (bool, int, float, str) or type(value) is Tensor


def algorithm_state(algorithm: Any) -> dict[str, Any]:
    """Weights, optimizers and plain attributes of an algorithm and its parts, and what it adds by `resume_state()`."""
    attributes = {
        path: {name: value for name, value in vars(module).items() if name not in OF_TORCH and is_plain(value)}
        for path, module in algorithm.named_modules()
    }
    return {
        "weights": algorithm.state_dict(),
        "optimizers": {name: one.state_dict() for name, one in optimizers_by_name(algorithm).items()},
        "attributes": {path: own for path, own in attributes.items() if own},
        "own": algorithm.resume_state() if hasattr(algorithm, "resume_state") else None,
    }


def restore_algorithm(algorithm: Any, state: dict[str, Any]) -> None:
    """Puts a state back into an algorithm that was constructed alike."""
    modules = dict(algorithm.named_modules())
    for path, own in state["attributes"].items():
        for name, value in own.items():
            present = getattr(modules[path], name, None)
            if isinstance(value, Tensor) and isinstance(present, Tensor):
                value = value.to(present.device)
            object.__setattr__(modules[path], name, value)
    algorithm.load_state_dict(state["weights"])
    for name, one in optimizers_by_name(algorithm).items():
        one.load_state_dict(state["optimizers"][name])
    if state["own"] is not None:
        algorithm.resume_from(state["own"])


def random_state() -> dict[str, Any]:
    """The state of all global generators, which dropout and others draw from."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, [int(key) for key in keys], *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Puts the global generators back to where they were."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def save(folder: RunFolder, n_updates: int, identity: str, state: dict[str, Any]) -> None:
    """Writes the state of the run called `identity` after so many updates."""
    buffer = io.BytesIO()
    torch.save({"version": VERSION, "identity": identity, "state": state}, buffer)
    content = buffer.getvalue()
    path = folder / f"resume-{n_updates}-{_digest(content)}.pt"
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
    for old in folder.saved_states()[KEPT:]:
        old.unlink()


def load(folder: RunFolder, identity: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The last sound saved state of a run, if there is one, and what was set aside and why."""
    notes: list[str] = []
    for path in folder.saved_states():
        problem, state = _content(path, identity)
        if state is not None:
            return state, notes
        notes.append(f"{path.name} {problem}: it was set aside as {set_aside(path)}")
    return None, notes


def set_aside(path: Path) -> str:
    """Renames a saved state so that no run resumes from it; returns its new name."""
    aside = path.with_suffix(".aside")
    os.replace(path, aside)
    return aside.name


def _content(path: Path, identity: str) -> tuple[str, dict[str, Any] | None]:
    """What is wrong with a saved state, or the state."""
    content = path.read_bytes()
    if _digest(content) != path.stem.rpartition("-")[2]:
        return "is torn", None
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if found["version"] != VERSION:
        return f"is of version {found['version']}, not {VERSION}", None
    if found["identity"] != identity:
        return "is of another run, or of other data", None
    return "", found["state"]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
