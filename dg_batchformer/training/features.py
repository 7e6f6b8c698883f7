"""Frozen backbones: a benchmark as the features of its images, computed once and kept beside them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from dg_batchformer import machine
from dg_batchformer.backbones import make_backbone
from dg_batchformer.data.environments import Dataset, Environment, Samples, TensorEnvironment
from dg_batchformer.hparams import weights_identity
from dg_batchformer.training.compute import EVALUATION_BATCH
from dg_batchformer.weights import backbone_name


def with_features(dataset: Dataset, hparams: Mapping[str, Any]) -> Dataset:
    """The dataset itself; with hparam `freeze_backbone` its images' features (n, C) in their place, never augmented.

    They are those of the backbone in evaluation mode. Where the images are files they are kept in the images' cache,
    by backbone and weights. The fingerprint stays that of the images.
    """
    if not hparams.get("freeze_backbone"):
        return dataset
    if dataset.cache:
        features = torch.from_numpy(np.load(stored(dataset, dataset.cache, hparams), mmap_mode="c"))
    else:
        features = compute(dataset, hparams)
    environments: list[Environment] = [
        TensorEnvironment(environment.name, own.to(machine.device()), environment.labels)
        for environment, own in zip(dataset.environments, features.split(dataset.sizes), strict=True)
    ]
    return dataclasses.replace(dataset, environments=environments, input_shape=(features.shape[1],), resident=None)


def stored(dataset: Dataset, folder: Path, hparams: Mapping[str, Any]) -> Path:
    """The file in `folder` of a dataset's features, made where it is not there."""
    what: tuple[str | None, ...] = (backbone_name(hparams), weights_identity(hparams["weights"]))
    if dataset.interpolation != "bilinear":
        what = (*what, dataset.interpolation)
    key = hashlib.md5(repr(what).encode("utf-8")).hexdigest()
    path = folder / f"features-{key}.npy"
    if not path.exists():
        partial = path.with_suffix(f".partial-{uuid.uuid4().hex[:8]}.npy")
        np.save(partial, compute(dataset, hparams).numpy())
        os.replace(partial, path)
    return path


@torch.no_grad()
def compute(dataset: Dataset, hparams: Mapping[str, Any]) -> Tensor:
    """Features (n, C) of all images, environment after environment."""
    device = machine.device()
    with torch.random.fork_rng([]):
        # A backbone without trained weights is always the same one.
        torch.manual_seed(0)
        backbone = make_backbone(dataset.input_shape, {**hparams, "freeze_bn": True}).eval()
        backbone = backbone.to(device).to(memory_format=torch.channels_last)
    batches = [
        Samples(i, indices)
        for i, size in enumerate(dataset.sizes)
        for indices in torch.arange(size).split(EVALUATION_BATCH[device])
    ]
    features = [
        backbone(*dataset.inputs([samples], device)).cpu()
        for samples in track(batches, f"features of {sum(dataset.sizes)} images by {backbone.name}")
    ]
    return torch.cat(features)
