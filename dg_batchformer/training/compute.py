"""How a run computes: its device, precision, compilation and learning rates, and the accuracies of its model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer import machine
from dg_batchformer.data.batches import Split
from dg_batchformer.data.environments import Dataset, Samples, augmentation, sent
from dg_batchformer.errors import InputError
from dg_batchformer.networks import optimizers_by_name
from dg_batchformer.runs import Run

EVALUATION_BATCH = {"cpu": 64, "cuda": 512}
"""Images that are evaluated at once; a batch that stays in a CPU's cache is the faster one."""


@dataclass(frozen=True)
class Compute:
    """The device of a run, its networks' precision ("fp32", or "bf16" by autocast), and whether it compiles them."""

    device: str
    precision: str = "fp32"
    compile: bool = False

    @classmethod
    def from_run(cls, run: Run) -> Compute:
        """How a run computes on this machine; InputError for a precision that its GPU does not have."""
        device, arguments = machine.device(), run.arguments
        if device == "cuda" and arguments.precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise InputError(f"--precision is bf16, which {machine.device_name()} does not have: expected fp32")
        return cls(device, arguments.precision, arguments.compile)

    def place(self, algorithm: Any) -> Any:
        """The algorithm, made ready to train there."""
        # Convolutions are faster so: by half in evaluation on a CPU, and for tensor cores on a GPU.
        algorithm = algorithm.to(self.device, memory_format=torch.channels_last)
        if self.device == "cuda":
            for optimizer in optimizers_by_name(algorithm).values():
                fuse(optimizer)
        if hasattr(algorithm, "reads_values"):
            algorithm.reads_values = False
        if self.compile:
            # Not the featurizer itself, whose `forward` BatchFormer replaces for each update.
            network = getattr(getattr(algorithm, "featurizer", None), "network", None)
            if not isinstance(network, torch.nn.Module):
                raise InputError(
                    "--compile is for pretrained backbones: this network is too small to gain, leave it out"
                )
            network.compile()
        return algorithm

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of updates and predictions."""
        # Without a cache of cast weights: an update may take several steps, and the cache would miss all but the last.
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Makes the steps of an optimizer, which has taken none, one kernel on a GPU, where torch has that kernel."""
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        for group in optimizer.param_groups:
            if not group.get("foreach") and not group.get("differentiable"):
                group["fused"] = True


class Schedule:
    """Sets the learning rates of an algorithm's optimizers after each of a run's `steps` updates.

    `share(step, steps)` counts from the update in which an optimizer was made: one that is made anew, as IRM's at its
    annealing step, starts over, as in Transfer-Learning-Library.
    """

    def __init__(self, algorithm: Any, share: Callable[[int, int], float], steps: int) -> None:
        self.algorithm, self.share, self.steps = algorithm, share, steps
        self.began: dict[str, tuple[torch.optim.Optimizer, int, list[float]]] = {}

    def after(self, step: int) -> None:
        """Sets the rates of the next update, after that of `step`."""
        for name, optimizer in optimizers_by_name(self.algorithm).items():
            if name not in self.began or self.began[name][0] is not optimizer:
                self.began[name] = (optimizer, step, [group["lr"] for group in optimizer.param_groups])
            _, first, rates = self.began[name]
            share = self.share(step + 1 - first, self.steps - first)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = share * rate

    def state(self) -> dict[str, tuple[int, list[float]]]:
        """When each optimizer was made, and its rates then."""
        return {name: (first, rates) for name, (_, first, rates) in self.began.items()}

    def restore(self, state: dict[str, tuple[int, list[float]]]) -> None:
        """Takes in a state, of the algorithm as it was then."""
        optimizers = optimizers_by_name(self.algorithm)
        self.began = {name: (optimizers[name], *own) for name, own in state.items()}


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
