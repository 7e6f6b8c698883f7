"""Learning rates that follow a protocol's schedule, whatever optimizers an algorithm makes and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dg_batchformer.algorithms.adapter.dry_run import optimizers_by_name

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
