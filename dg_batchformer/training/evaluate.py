"""Accuracy and cross-entropy on every split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.data.batches import Split
from dg_batchformer.data.environments import Dataset, Samples, augmentation, sent
from dg_batchformer.training.compute import EVALUATION_BATCH, Compute


def correct_and_loss(algorithm: Any, dataset: Dataset, samples: Samples, compute: Compute) -> tuple[Tensor, Tensor]:
    """Which predictions on some samples are correct, and summed cross-entropy, as tensors that nothing waited for."""
    labels = sent(dataset.environments[samples.environment].labels[samples.indices], compute.device)
    (inputs,) = dataset.inputs([samples], compute.device)
    with torch.inference_mode(), compute.autocast():
        logits = algorithm.predict(inputs).float()
        return logits.argmax(1) == labels, F.cross_entropy(logits, labels, reduction="sum")


def macro_accuracy(correct: Tensor, labels: Tensor) -> float:
    """Mean over the classes that occur in `labels` (n,) of the share of each that is `correct`, which is bool (n,)."""
    n_labels = torch.bincount(labels)
    n_correct = torch.bincount(labels[correct], minlength=len(n_labels))
    occurs = n_labels > 0
    return float((n_correct[occurs].double() / n_labels[occurs]).mean())


def evaluate(
    algorithm: Any,
    dataset: Dataset,
    splits: Sequence[Split],
    test_envs: Sequence[int],
    compute: Compute,
    progress: Callable[[int, int], None],
    augment: torch.Generator | None = None,
) -> dict[str, float]:
    """`env{i}_in_acc`, `env{i}_in_macro_acc` and the same of `out` of every environment, and `validation_loss`.

    Macro accuracies are means over classes, those that a split lacks left out. `validation_loss` is the mean over the
    training environments of the cross-entropy on their out-splits. `progress` is called after each batch with the
    images done and their number; where `augment` is given, it augments the images of the training environments, as
    DomainBed does.
    """
    algorithm.eval()
    n_done, n_images = 0, sum(len(split.inside) + len(split.out) for split in splits)
    values, losses = {}, []
    for i, split in enumerate(splits):
        generator = augment if i not in test_envs else None
        for name, indices in (("in", split.inside), ("out", split.out)):
            evaluated = []
            for chunk in torch.split(indices, EVALUATION_BATCH[compute.device]):
                draws = augmentation(dataset.environments[i], len(chunk), generator) if generator else None
                evaluated.append(correct_and_loss(algorithm, dataset, Samples(i, chunk, draws), compute))
                n_done += len(chunk)
                progress(n_done, n_images)
            hits, sums = zip(*evaluated, strict=True)
            # Counted by class on the host, which has the labels: on a GPU `bincount` would wait.
            correct, loss = torch.cat(hits).cpu(), float(torch.stack(sums).double().sum())
            values[f"env{i}_{name}_acc"] = int(correct.sum()) / len(indices)
            values[f"env{i}_{name}_macro_acc"] = macro_accuracy(correct, dataset.environments[i].labels[indices])
        if i not in test_envs:
            losses.append(loss / len(split.out))
    algorithm.train()
    return {**values, "validation_loss": sum(losses) / len(losses)}
