"""`model.pkl`: the trained model, for inference, in DomainBed's format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from dg_batchformer.batchformer import without_batchformer


def save_model(
    path: Path, algorithm: Any, arguments: dict[str, Any], hparams: dict[str, Any], shape: dict[str, Any]
) -> None:
    """Writes a model under DomainBed's keys: tensors and plain values only, without BatchFormer.

    `torch.load(path, weights_only=True)` opens it; `model_dict` loads into the base algorithm, here or in DomainBed.
    `shape` has `input_shape`, `num_classes` and `num_domains`.
    """
    state = {
        name: tensor.detach().cpu() for name, tensor in without_batchformer(algorithm.state_dict().items()).items()
    }
    content = {
        "args": arguments,
        **{f"model_{name}": value for name, value in shape.items()},
        "model_hparams": hparams,
        "model_dict": state,
    }
    partial = path.with_name(path.name + ".partial")
    torch.save(content, partial)
    os.replace(partial, path)
