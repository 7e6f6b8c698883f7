"""What a run leaves beside its accuracies: what made its records, and its model."""

import os
from pathlib import Path
from typing import Any

import torch

from dg_batchformer import machine
from dg_batchformer.batchformer import without_batchformer
from dg_batchformer.networks import describe
from dg_batchformer.training.setup import Setup


def origin(setup: Setup) -> dict[str, Any]:
    """What made the records of a run: network, data, device and versions."""
    run, dataset = setup.run, setup.dataset
    featurizer = getattr(setup.algorithm, "featurizer", None)
    return {
        **(describe(featurizer, run.hparams) if featurizer is not None else {}),
        "data_fingerprint": dataset.fingerprint,
        **({"split_file": run.split_file} if run.split_file else {}),
        **({"skipped_images": dataset.skipped} if dataset.skipped else {}),
        **({"classes": dataset.classes} if run.is_by_class or run.arguments.save_predictions else {}),
        **({"class_counts": setup.class_counts} if run.is_by_class else {}),
        "device": machine.device_name(),
        "versions": machine.versions(),
    }


def save_model(path: Path, setup: Setup, algorithm: Any) -> None:
    """Writes the model for inference in DomainBed's format: tensors and plain values only, without BatchFormer.

    `torch.load(path, weights_only=True)` opens it; `model_dict` loads into the base algorithm, ours or DomainBed's.
    """
    weights = without_batchformer(algorithm.state_dict().items())
    content = {
        "args": setup.run.arguments.values,
        "model_input_shape": setup.dataset.input_shape,
        "model_num_classes": setup.dataset.num_classes,
        "model_num_domains": len(setup.run.training_envs),
        "model_hparams": setup.run.hparams,
        "model_dict": {name: tensor.detach().cpu() for name, tensor in weights.items()},
    }
    partial = path.with_name(f"{path.name}.partial")
    torch.save(content, partial)
    os.replace(partial, path)
