"""What the frozen part of a backbone makes of all images, computed once: features, or maps for the rest of it.

For image files they are kept in the images' cache, by backbone, weights and size. They are computed in parts, so that
an interruption loses one part at most.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from dg_batchformer import machine
from dg_batchformer.backbones import fold_batch_norms, make_backbone
from dg_batchformer.data.environments import Dataset, Environment, Samples, TensorEnvironment, augmentation
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash, weights_identity
from dg_batchformer.training.compute import EVALUATION_BATCH
from dg_batchformer.weights import backbone_name

PART = 8
"""Batches of images in a part."""


def with_features(dataset: Dataset, hparams: Mapping[str, Any]) -> Dataset:
    """The dataset itself, or what a frozen part of the backbone makes of its images in evaluation mode.

    With hparam `freeze_backbone` these are features (n, C), with `freeze_until` the outputs of that module, such as
    maps (n, C, H, W) in bfloat16. `feature_views` adds so many augmented views of each image, of which a training step
    draws one. The fingerprint is still that of the images. InputError for hparams that contradict each other.
    """
    check_features(dataset, hparams)
    if not is_frozen(hparams):
        return dataset
    plain = kept(dataset, hparams)
    views = kept(dataset, hparams, hparams["feature_views"]) if hparams.get("feature_views") else None
    device = machine.device()
    environments: list[Environment] = []
    end = 0
    for environment in dataset.environments:
        own = slice(end, end := end + len(environment.labels))
        augmented = None if views is None else views[own].to(device)
        environments.append(TensorEnvironment(environment.name, plain[own].to(device), environment.labels, augmented))
    return dataclasses.replace(dataset, environments=environments, input_shape=tuple(plain.shape[1:]), resident=None)


def is_frozen(hparams: Mapping[str, Any]) -> bool:
    """Whether a part of the backbone is frozen."""
    return bool(hparams.get("freeze_backbone") or hparams.get("freeze_until"))


def check_features(dataset: Dataset, hparams: Mapping[str, Any]) -> None:
    """Raises InputError for hparams that contradict each other or the dataset."""
    if hparams.get("freeze_backbone") and hparams.get("freeze_until"):
        raise InputError("hparams 'freeze_backbone' and 'freeze_until' contradict each other: expected one of them")
    if hparams.get("feature_views"):
        if not is_frozen(hparams):
            raise InputError("hparam 'feature_views' needs 'freeze_backbone' or 'freeze_until': expected one of them")
        if not all(environment.n_draws for environment in dataset.environments):
            raise InputError(f"hparam 'feature_views' is for images that are augmented, not for {dataset.name}")


def kept(dataset: Dataset, hparams: Mapping[str, Any], n_views: int = 0) -> Tensor:
    """Features or maps of all images, sorted by environment: (n, ...), or (n, n_views, ...) of augmented views."""
    if not dataset.cache:
        return torch.cat(list(computed(dataset, hparams, n_views, None)))
    file = features_file(dataset, dataset.cache, hparams, n_views)
    if not file.exists():
        parts = file.with_suffix(".parts")
        parts.mkdir(exist_ok=True)
        values, end = None, 0
        partial = file.with_suffix(f".partial-{uuid.uuid4().hex[:8]}.npy")
        for part in map(as_stored, computed(dataset, hparams, n_views, parts)):
            if values is None:
                shape = (sum(dataset.sizes), *part.shape[1:])
                check_space(dataset.cache, part[0].nbytes * shape[0])
                values = np.lib.format.open_memmap(partial, "w+", part.dtype, shape)
            values[end : (end := end + len(part))] = part
        os.replace(partial, file)
        shutil.rmtree(parts, ignore_errors=True)
    return from_stored(np.load(file, mmap_mode="c"))


def check_space(folder: Path, n_bytes: int) -> None:
    """Raises InputError if a file and the parts of which it is made do not fit the disk."""
    if (free := shutil.disk_usage(folder).free) < 2 * n_bytes:
        raise InputError(
            f"the kept maps need {2 * n_bytes / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB left: expected a later "
            "module as 'freeze_until', a smaller 'image_size', fewer 'feature_views', or another --cache_dir"
        )


def as_stored(values: Tensor) -> np.ndarray[Any, Any]:
    """Values for a file; NumPy has no bfloat16."""
    return values.view(torch.int16).numpy() if values.dtype == torch.bfloat16 else values.numpy()


def from_stored(values: np.ndarray[Any, Any]) -> Tensor:
    """The values of a file."""
    found = torch.from_numpy(values)
    return found.view(torch.bfloat16) if found.dtype == torch.int16 else found


def features_file(dataset: Dataset, folder: Path, hparams: Mapping[str, Any], n_views: int) -> Path:
    """The file of features or maps in `folder`."""
    what: tuple[Any, ...] = (backbone_name(hparams), weights_identity(hparams["weights"]))
    what += (dataset.interpolation,) if dataset.interpolation != "bilinear" else ()
    what += tuple((name, hparams[name]) for name in ("image_size", "freeze_until") if hparams.get(name))
    what += (("views", n_views),) if n_views else ()
    return folder / f"features-{hashlib.md5(repr(what).encode('utf-8')).hexdigest()}.npy"


@torch.no_grad()
def computed(dataset: Dataset, hparams: Mapping[str, Any], n_views: int, folder: Path | None) -> Iterator[Tensor]:
    """The values of `kept`, part by part; with a folder, finished parts stay there and are not computed again."""
    device = machine.device()
    frozen = frozen_part(dataset, hparams).to(device).to(memory_format=torch.channels_last)
    batches = [
        Samples(i, indices)
        for i, size in enumerate(dataset.sizes)
        for indices in torch.arange(size).split(EVALUATION_BATCH[device])
    ]
    parts = [batches[i : i + PART] for i in range(0, len(batches), PART)]
    what = f"{n_views} views of " * bool(n_views)
    for i, part in enumerate(track(parts, f"{what}{sum(dataset.sizes)} images by {backbone_name(hparams)}")):
        file = folder / f"{i:05}.npy" if folder else None
        if file and file.exists():
            yield from_stored(np.load(file))
            continue
        dtype = torch.bfloat16 if hparams.get("freeze_until") else torch.float32
        values = torch.cat([of_samples(frozen, dataset, samples, n_views, device).to(dtype) for samples in part])
        if file:
            partial = file.with_name(f"{i:05}.partial-{uuid.uuid4().hex[:8]}.npy")
            np.save(partial, as_stored(values))
            os.replace(partial, file)
        yield values


def of_samples(frozen: nn.Module, dataset: Dataset, samples: Samples, n_views: int, device: str) -> Tensor:
    """The outputs for some samples (n, ...), or for their augmented views (n, n_views, ...), on the CPU."""
    if not n_views:
        return frozen(*dataset.inputs([samples], device)).cpu()
    environment, indices = dataset.environments[samples.environment], samples.indices
    views = []
    for view in range(n_views):
        # The first views are the same, however many there are.
        seed = seed_hash("feature view", view, samples.environment, int(indices[0]))
        draws = augmentation(environment, len(indices), torch.Generator().manual_seed(seed))
        views.append(frozen(*dataset.inputs([Samples(samples.environment, indices, draws)], device)).cpu())
    return torch.stack(views, 1)


def frozen_part(dataset: Dataset, hparams: Mapping[str, Any]) -> nn.Module:
    """The frozen part of the backbone in evaluation mode, from images to features or maps."""
    with torch.random.fork_rng([]):
        # A backbone without trained weights is always the same.
        torch.manual_seed(0)
        backbone = make_backbone(dataset.input_shape, {**hparams, "freeze_bn": True})
        part = (backbone.cut(hparams["freeze_until"]) if hparams.get("freeze_until") else backbone).eval()
        fold_batch_norms(part, torch.randn(2, *dataset.input_shape))
    return part
