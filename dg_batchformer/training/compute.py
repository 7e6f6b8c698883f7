"""The computation of a run: device, precision, compilation, learning rates, and the accuracies of its model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer import machine
from dg_batchformer.data.environments import Dataset, Samples, Split, augmentation, sent
from dg_batchformer.data.imbalance import class_counts
from dg_batchformer.errors import InputError
from dg_batchformer.networks import optimizers_by_name
from dg_batchformer.runs import Run

EVALUATION_BATCH = {"cpu": 32, "cuda": 512}
"""The batch size of evaluations; a batch that fits a CPU's cache is faster."""


@dataclass(frozen=True)
class Compute:
    """Device, precision of the networks ("fp32", or "bf16" by autocast), and whether to compile them."""

    device: str
    precision: str = "fp32"
    compile: bool = False

    @classmethod
    def from_run(cls, run: Run) -> Compute:
        """The computation on this machine; InputError for a precision that its GPU does not support.

        On a CPU the process keeps freed memory from now on.
        """
        device, arguments = machine.device(), run.arguments
        if device == "cpu":
            machine.keep_freed_memory()
        if device == "cuda" and arguments.precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise InputError(f"--precision is bf16, which {machine.device_name()} does not support: expected fp32")
        return cls(device, arguments.precision, arguments.compile)

    def place(self, algorithm: Any) -> Any:
        """The algorithm, prepared for training."""
        # This layout makes convolutions faster: evaluation on a CPU, and tensor cores on a GPU.
        algorithm = algorithm.to(self.device, memory_format=torch.channels_last)
        if self.device == "cuda":
            for optimizer in optimizers_by_name(algorithm).values():
                fuse(optimizer)
        if hasattr(algorithm, "reads_values"):
            algorithm.reads_values = False
        if self.compile:
            # Not the featurizer itself: BatchFormer replaces its `forward` in each update.
            network = getattr(getattr(algorithm, "featurizer", None), "network", None)
            if not isinstance(network, torch.nn.Module):
                raise InputError(
                    "--compile is for pretrained backbones: this network is too small to gain from it, omit it"
                )
            network.compile()
        return algorithm

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of updates and predictions."""
        # No cache of cast weights: it would be outdated if an update takes several steps.
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Makes each step of a new optimizer one kernel on a GPU, if torch has that kernel."""
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        for group in optimizer.param_groups:
            if not group.get("foreach") and not group.get("differentiable"):
                group["fused"] = True


class Schedule:
    """Sets the learning rates of an algorithm's optimizers after each of the `steps` updates of a run.

    `share(step, steps)` counts from the update in which an optimizer was made: a new one, such as IRM's at its
    annealing step, starts again, as in Transfer-Learning-Library.
    """

    def __init__(self, algorithm: Any, share: Callable[[int, int], float], steps: int) -> None:
        self.algorithm, self.share, self.steps = algorithm, share, steps
        self.began: dict[str, tuple[torch.optim.Optimizer, int, list[float]]] = {}

    def after(self, step: int) -> None:
        """Sets the rates of the update after `step`."""
        for name, optimizer in optimizers_by_name(self.algorithm).items():
            if name not in self.began or self.began[name][0] is not optimizer:
                self.began[name] = (optimizer, step, [group["lr"] for group in optimizer.param_groups])
            _, first, rates = self.began[name]
            share = self.share(step + 1 - first, self.steps - first)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = share * rate

    def state(self) -> dict[str, tuple[int, list[float]]]:
        """When each optimizer was made, and its rates at that time."""
        return {name: (first, rates) for name, (_, first, rates) in self.began.items()}

    def restore(self, state: dict[str, tuple[int, list[float]]]) -> None:
        """Restores a state of the same algorithm."""
        optimizers = optimizers_by_name(self.algorithm)
        self.began = {name: (optimizers[name], *own) for name, own in state.items()}


@torch.inference_mode()
def correct_and_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Correct predictions (n,) of logits (n, classes), and the summed cross-entropy, without a wait for the GPU."""
    return logits.argmax(1) == labels, F.cross_entropy(logits, labels, reduction="sum")


def logits_of(algorithm: Any, dataset: Dataset, samples: Samples, compute: Compute) -> Tensor:
    """The logits (n, classes) of some samples, in float32 on the device."""
    (inputs,) = dataset.inputs([samples], compute.device)
    with torch.inference_mode(), compute.autocast():
        logits: Tensor = algorithm.predict(inputs).float()
        return logits


@torch.no_grad()
def training_features(
    algorithm: Any, dataset: Dataset, splits: Sequence[Split], environments: Sequence[int], compute: Compute
) -> tuple[list[Tensor], list[Tensor]]:
    """Features (n_d, C) and labels (n_d,) of all training images of each training environment d, in evaluation mode."""
    algorithm.eval()
    features, labels = [], []
    for i in environments:
        parts = [Samples(i, chunk) for chunk in splits[i].inside.split(EVALUATION_BATCH[compute.device])]
        with compute.autocast():
            features.append(torch.cat([algorithm.featurizer(*dataset.inputs([one], compute.device)) for one in parts]))
        labels.append(sent(dataset.environments[i].labels[splits[i].inside], compute.device))
    algorithm.train()
    return [own.float() for own in features], labels


def class_accuracies(correct: Tensor, labels: Tensor, n_classes: int) -> list[float | None]:
    """The accuracy of each class, None for one that is not in `labels` (n,); `correct` is bool (n,)."""
    counts = zip(class_counts(labels[correct], n_classes), class_counts(labels, n_classes), strict=True)
    return [right / n if n else None for right, n in counts]


def macro_accuracy(by_class: Sequence[float | None]) -> float:
    """The mean of the accuracies of the classes that occur."""
    return float(torch.tensor([one for one in by_class if one is not None], dtype=torch.float64).mean())


def evaluate(
    algorithm: Any,
    dataset: Dataset,
    splits: Sequence[Split],
    training_envs: Sequence[int],
    compute: Compute,
    progress: Callable[[int, int], None],
    augment: torch.Generator | None = None,
    *,
    by_class: bool = False,
    see: Callable[[int, str, Tensor], None] | None = None,
) -> dict[str, Any]:
    """`env{i}_in_acc`, `env{i}_in_macro_acc` and the same of `out` of every environment, and `validation_loss`.

    Environments with a test split have `test` instead of `in`. Macro accuracies are means over the classes that occur
    in a split; `by_class` adds `env{i}_in_by_class` (or `test`), a list. `validation_loss` is the mean over the
    training environments of the cross-entropy on their out-splits. `progress` is called after each batch with the
    images done and their number; if `augment` is given, it augments the images of the training environments, as
    DomainBed does. `see` gets the logits of each batch, with its environment and split.
    """
    algorithm.eval()
    parts = [("in", one.inside) if one.test is None else ("test", one.test) for one in splits]
    n_done, n_images = 0, sum(len(own) + len(split.out) for (_, own), split in zip(parts, splits, strict=True))
    values: dict[str, Any] = {}
    losses = []
    for i, split in enumerate(splits):
        generator = augment if i in training_envs else None
        for name, indices in (parts[i], ("out", split.out)):
            evaluated = []
            for chunk in torch.split(indices, EVALUATION_BATCH[compute.device]):
                draws = augmentation(dataset.environments[i], len(chunk), generator) if generator else None
                logits = logits_of(algorithm, dataset, Samples(i, chunk, draws), compute)
                labels = sent(dataset.environments[i].labels[chunk], compute.device)
                evaluated.append(correct_and_loss(logits, labels))
                if see:
                    see(i, name, logits)
                n_done += len(chunk)
                progress(n_done, n_images)
            hits, sums = zip(*evaluated, strict=True)
            # Counted by class on the CPU, which has the labels: on a GPU `bincount` would wait.
            correct, loss = torch.cat(hits).cpu(), float(torch.stack(sums).double().sum())
            values[f"env{i}_{name}_acc"] = int(correct.sum()) / len(indices)
            of_classes = class_accuracies(correct, dataset.environments[i].labels[indices], dataset.num_classes)
            values[f"env{i}_{name}_macro_acc"] = macro_accuracy(of_classes)
            if by_class and name != "out":
                values[f"env{i}_{name}_by_class"] = of_classes
        if i in training_envs:
            losses.append(loss / len(split.out))
    algorithm.train()
    return {**values, "validation_loss": sum(losses) / len(losses)}
