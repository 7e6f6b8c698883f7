"""Learning rates that follow a protocol's schedule, whatever optimizers an algorithm makes and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dg_batchformer.algorithms.trial import all_optimizers

Share = Callable[[int, int], float]
"""The share of the learning rate at a step of so many."""


class Schedule:
    """Sets the learning rates of an algorithm's optimizers after each of a run's `steps` updates.

    `share(step, steps)` counts from the update in which an optimizer was made: one that is made anew, as IRM's at its
    annealing step, starts over, as in Transfer-Learning-Library.
    """

    def __init__(self, algorithm: Any, share: Share, steps: int) -> None:
        self.algorithm, self.share, self.steps = algorithm, share, steps
        self.began: dict[int, tuple[torch.optim.Optimizer, int, list[float]]] = {}

    def after(self, step: int) -> None:
        """Sets the rates of the next update, after that of `step`."""
        for optimizer in all_optimizers(self.algorithm):
            known = self.began.get(id(optimizer))
            if known is None or known[0] is not optimizer:
                known = (optimizer, step, [group["lr"] for group in optimizer.param_groups])
                self.began[id(optimizer)] = known
            _, first, rates = known
            share = self.share(step + 1 - first, self.steps - first)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = share * rate
