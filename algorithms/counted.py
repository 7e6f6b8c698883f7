"""The common part of the long-tail objectives: a loss that depends on the class counts of its environment."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dg_batchformer.networks import Shape

from .erm import ERM


class CountedLoss(ERM):
    """The mean of the environments' losses, each with the class counts of its environment.

    Without class counts, as in DomainBed's own scripts, all classes count the same. A subclass defines `loss`.
    """

    def __init__(self, input_shape: Shape, num_classes: int, num_domains: int, hparams: Mapping[str, Any]) -> None:
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.class_counts: Tensor
        self.register_buffer("class_counts", torch.ones(num_domains, num_classes), persistent=False)

    def set_class_counts(self, counts: Tensor) -> None:
        """Sets the numbers of training images (num_domains, num_classes)."""
        self.class_counts = counts.to(self.class_counts)

    def loss(self, logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        """The loss () of an environment, from logits (n, K), labels (n,) and class counts (K,), which may be 0."""
        raise NotImplementedError

    def objective(self, features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        of_environments = zip(features, labels, self.class_counts, strict=True)
        losses = [self.loss(self.classifier(z), y, counts) for z, y, counts in of_environments]
        return {"loss": torch.stack(losses).mean()}
