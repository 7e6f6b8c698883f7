"""How a run computes: on which device, in which precision, compiled or not, at which learning rates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dg_batchformer import machine
from dg_batchformer.errors import InputError
from dg_batchformer.optimizers import optimizers_by_name
from dg_batchformer.runs.run import Run

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


class Values:
    """What updates return, by step since it was last cleared; read when asked, since reading makes a GPU wait."""

    def __init__(self, steps: list[int] | None = None, by_step: list[dict[str, float]] | None = None) -> None:
        self.unread: list[tuple[int, Mapping[str, float | Tensor]]] = []
        self.steps = steps or []
        self.by_step = by_step or []

    def add(self, step: int, values: Mapping[str, float | Tensor]) -> None:
        """Takes in the values of a step."""
        self.unread.append((step, values))

    def read(self) -> list[dict[str, float]]:
        """The values of all steps since it was last cleared."""
        for step, values in self.unread:
            self.steps.append(step)
            self.by_step.append({name: float(value) for name, value in values.items()})
        self.unread.clear()
        return self.by_step

    def clear(self) -> None:
        """Forgets all steps."""
        self.unread, self.steps, self.by_step = [], [], []


Share = Callable[[int, int], float]
"""The share of the learning rate at a step of so many."""


class Schedule:
    """Sets the learning rates of an algorithm's optimizers after each of a run's `steps` updates.

    `share(step, steps)` counts from the update in which an optimizer was made: one that is made anew, as IRM's at its
    annealing step, starts over, as in Transfer-Learning-Library.
    """

    def __init__(self, algorithm: Any, share: Share, steps: int) -> None:
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
