"""Accuracy and cross-entropy on every split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.data.environments import Environment
from dg_batchformer.data.splits import Split

BATCH_SIZE = 64


@torch.no_grad()
def correct_and_loss(algorithm: Any, environment: Environment, indices: Tensor, device: str) -> tuple[int, float]:
    """Number of correct predictions and summed cross-entropy on some images of an environment, unaugmented."""
    labels = environment.labels[indices].to(device)
    logits = algorithm.predict(environment.inputs(indices).to(device))
    return int((logits.argmax(1) == labels).sum()), float(F.cross_entropy(logits, labels, reduction="sum"))


def evaluate(
    algorithm: Any,
    environments: Sequence[Environment],
    splits: Sequence[Split],
    test_envs: Sequence[int],
    device: str,
    progress: Callable[[int, int], None],
) -> dict[str, float]:
    """`env{i}_in_acc` and `env{i}_out_acc` of every environment, and `validation_loss`.

    `validation_loss` is the mean over the training environments of the cross-entropy on their out-splits. `progress`
    is called after each batch with the images done and their number.
    """
    algorithm.eval()
    n_done, n_images = 0, sum(len(split.inside) + len(split.out) for split in splits)
    values, losses = {}, []
    for i, (environment, split) in enumerate(zip(environments, splits, strict=True)):
        for name, indices in (("in", split.inside), ("out", split.out)):
            correct, loss = 0, 0.0
            for chunk in torch.split(indices, BATCH_SIZE):
                chunk_correct, chunk_loss = correct_and_loss(algorithm, environment, chunk, device)
                correct, loss, n_done = correct + chunk_correct, loss + chunk_loss, n_done + len(chunk)
                progress(n_done, n_images)
            values[f"env{i}_{name}_acc"] = correct / len(indices)
        if i not in test_envs:
            losses.append(loss / len(split.out))
    algorithm.train()
    return {**values, "validation_loss": sum(losses) / len(losses)}
