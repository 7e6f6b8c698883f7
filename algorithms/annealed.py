"""The common part of IRM and VREx: a penalty over environments whose weight changes once."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.data.batches import Minibatches
from dg_batchformer.hparams import Hyperparameter, require
from dg_batchformer.networks import Shape

from .erm import ERM


def annealed_hyperparameters(method: str, weight: float) -> tuple[Hyperparameter, Hyperparameter]:
    """The weight of the penalty and its start step, with DomainBed's names for `method`."""
    return (
        Hyperparameter(f"{method}_lambda", weight, lambda r: 10 ** r.uniform(-1, 5)),
        Hyperparameter(f"{method}_penalty_anneal_iters", 500, lambda r: int(10 ** r.uniform(0, 4)), minimum=0),
    )


class AnnealedPenalty(ERM):
    """nll + weight * penalty; the weight is 1 before the annealing step and the method's lambda from then on.

    At that step a new optimizer starts, as in DomainBed: Adam's moments do not fit the new gradients.
    A subclass sets `method` and defines `penalty`.
    """

    method: str

    def __init__(self, input_shape: Shape, num_classes: int, num_domains: int, hparams: Mapping[str, Any]) -> None:
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.update_count: Tensor
        self.register_buffer("update_count", torch.tensor([0]))
        # Not read from the buffer (which DomainBed has): that would wait for the GPU at every step.
        self.n_updates = 0
        self.register_load_state_dict_post_hook(AnnealedPenalty._read_count)

    def _read_count(self, *of_hook: Any) -> None:
        self.n_updates = int(self.update_count)

    def penalty(self, logits: list[Tensor], labels: list[Tensor], losses: Tensor, nll: Tensor) -> Tensor:
        """The penalty, from logits and labels by environment, the cross-entropies (D,) and their mean ().

        The mean is an argument because a second computation rounds differently, and Adam magnifies the difference.
        """
        raise NotImplementedError

    def objective(self, features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        logits = torch.split(self.classifier(torch.cat(features)), [len(one) for one in features])
        losses = torch.stack([F.cross_entropy(one, y) for one, y in zip(logits, labels, strict=True)])
        nll = losses.mean()
        penalty = self.penalty(list(logits), labels, losses, nll)
        annealed = self.n_updates >= require(self.hparams, f"{self.method}_penalty_anneal_iters")
        weight = require(self.hparams, f"{self.method}_lambda") if annealed else 1.0
        return {"loss": nll + weight * penalty, "nll": nll, "penalty": penalty}

    def update(self, minibatches: Minibatches, unlabeled: Any = None) -> dict[str, float]:
        if self.n_updates == require(self.hparams, f"{self.method}_penalty_anneal_iters"):
            self.optimizer = self.new_optimizer()
        values = super().update(minibatches, unlabeled)
        self.update_count += 1
        self.n_updates += 1
        return values
