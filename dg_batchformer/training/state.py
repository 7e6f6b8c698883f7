"""What the next update of an algorithm depends on, as tensors and plain values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dg_batchformer.algorithms.adapter.dry_run import optimizers_by_name

OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has, which its `state_dict` covers."""


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
    """That of all global generators, which dropout and others draw from."""
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
