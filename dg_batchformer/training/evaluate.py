"""Accuracy and cross-entropy on every split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.data.environments import Environment
from dg_batchformer.data.splits import Split

BATCH_SIZE = 64


@torch.no_grad()
def accuracy_and_loss(algorithm: Any, environment: Environment, indices: Tensor, device: str) -> tuple[float, float]:
    """Share of correct predictions and mean cross-entropy on some images of an environment, unaugmented."""
    correct, loss = 0, 0.0
    for chunk in torch.split(indices, BATCH_SIZE):
        labels = environment.labels[chunk].to(device)
        logits = algorithm.predict(environment.inputs(chunk).to(device))
        correct += int((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return correct / len(indices), loss / len(indices)


def evaluate(
    algorithm: Any,
    environments: Sequence[Environment],
    splits: Sequence[Split],
    test_envs: Sequence[int],
    device: str,
) -> dict[str, float]:
    """`env{i}_in_acc` and `env{i}_out_acc` of every environment, and `validation_loss`.

    `validation_loss` is the mean over the training environments of the cross-entropy on their out-splits.
    """
    algorithm.eval()
    values, losses = {}, []
    for i, (environment, split) in enumerate(zip(environments, splits, strict=True)):
        values[f"env{i}_in_acc"], _ = accuracy_and_loss(algorithm, environment, split.inside, device)
        values[f"env{i}_out_acc"], loss = accuracy_and_loss(algorithm, environment, split.out, device)
        if i not in test_envs:
            losses.append(loss)
    algorithm.train()
    return {**values, "validation_loss": sum(losses) / len(losses)}
