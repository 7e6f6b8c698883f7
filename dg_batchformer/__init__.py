"""BatchFormer for domain-generalization benchmarks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dg_batchformer.algorithms import with_batchformer, with_mixstyle, with_swad
    from dg_batchformer.batchformer import BatchFormer
    from dg_batchformer.registry import (
        ALGORITHMS,
        default_hparams,
        get_algorithm_class,
        random_hparams,
        register_algorithm,
    )

__version__ = "0.2.0"

__all__ = [
    "ALGORITHMS",
    "BatchFormer",
    "default_hparams",
    "get_algorithm_class",
    "random_hparams",
    "register_algorithm",
    "with_batchformer",
    "with_mixstyle",
    "with_swad",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: reading results needs no torch."""
    if name in ("with_batchformer", "with_mixstyle", "with_swad"):
        module = "dg_batchformer.algorithms"
    elif name == "BatchFormer":
        module = "dg_batchformer.batchformer"
    elif name in __all__:
        module = "dg_batchformer.registry"
    else:
        raise AttributeError(f"module 'dg_batchformer' has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)
