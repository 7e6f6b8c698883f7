"""The state of a run: everything that an interrupted run needs to resume with the same result.

A saved state is a file `resume-N-HASH.pt` with the number of updates and the hash of its content. It is written
completely or not at all, and has tensors and plain values only. The last two are kept: if one is damaged or belongs to
another run it is renamed, and the run resumes from the one before.
"""

import hashlib
import io
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dg_batchformer.networks import optimizers_by_name
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.runs.records import Record
from dg_batchformer.training.compute import Schedule

KEPT = 2
VERSION = 1

OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes of every module; its `state_dict` covers them."""

AS_IS = ("n_updates", "checkpoint_due", "record", "last_values", "segment_images")


@dataclass
class RunState:
    """The state on which the rest of a run depends: `n_updates` are done, and a checkpoint may be due.

    A segment is the part between two checkpoints; `values` are the returned values of its updates, by step.
    """

    algorithm: Any
    schedule: Schedule | None = None
    n_updates: int = 0
    checkpoint_due: bool = False
    record: Record = field(default_factory=dict)
    values: dict[int, Mapping[str, float | Tensor]] = field(default_factory=dict)
    last_values: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    segment_started: float = field(default_factory=time.monotonic)
    segment_images: int = 0

    def read_values(self) -> dict[int, dict[str, float]]:
        """`values` as numbers; read only when needed, since that waits for the GPU."""
        rows = {step: {name: float(value) for name, value in row.items()} for step, row in self.values.items()}
        self.values = {**rows}
        return rows

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and plain values, with the global generators."""
        now = time.monotonic()
        rows = self.read_values()
        return {
            **{name: getattr(self, name) for name in AS_IS},
            "algorithm": algorithm_state(self.algorithm),
            "schedule": self.schedule.state() if self.schedule else None,
            "random": random_state(),
            "values": list(rows.values()),
            "steps": list(rows),
            "seconds": now - self.started,
            "segment_seconds": now - self.segment_started,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a `state_dict` into an algorithm constructed with the same arguments."""
        restore_algorithm(self.algorithm, state["algorithm"])
        if self.schedule:
            self.schedule.restore(state["schedule"])
        for name in AS_IS:
            setattr(self, name, state[name])
        self.values = dict(zip(state["steps"], state["values"], strict=True))
        now = time.monotonic()
        self.started, self.segment_started = now - state["seconds"], now - state["segment_seconds"]
        restore_random_state(state["random"])


def is_plain(value: Any) -> bool:
    """Whether a value may be in a file that is safe to load."""
    if isinstance(value, dict):
        return all(map(is_plain, [*value, *value.values()]))
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str) or type(value) is Tensor


def algorithm_state(algorithm: Any) -> dict[str, Any]:
    """Weights, optimizers and plain attributes of an algorithm and its parts, and its `resume_state()`."""
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
    """The state of all global generators, which dropout and others use."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, [int(key) for key in keys], *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def save(folder: RunFolder, n_updates: int, identity: str, state: dict[str, Any]) -> None:
    """Writes the state of the run `identity` after `n_updates`."""
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
    except OSError:  # a full disk needs the space
        partial.unlink(missing_ok=True)
        raise
    for old in folder.saved_states()[KEPT:]:
        old.unlink()


def load(folder: RunFolder, identity: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The last valid saved state of a run, or None, and a note for each invalid one."""
    notes: list[str] = []
    for path in folder.saved_states():
        content = path.read_bytes()
        whole = _digest(content) == path.stem.rpartition("-")[2]
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True) if whole else {}
        if not whole:
            problem = "is damaged"
        elif found["version"] != VERSION:
            problem = f"has version {found['version']}, expected {VERSION}"
        elif found["identity"] != identity:
            problem = "belongs to another run or other data"
        else:
            return found["state"], notes
        notes.append(f"{path.name} {problem}: renamed to {set_aside(path)}")
    return None, notes


def set_aside(path: Path) -> str:
    """Renames a saved state so that no run resumes from it; returns the new name."""
    aside = path.with_suffix(".aside")
    os.replace(path, aside)
    return aside.name


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
