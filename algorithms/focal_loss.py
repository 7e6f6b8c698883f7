"""Focal loss, for long tails."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.hparams import Hyperparameter
from dg_batchformer.registry import register_algorithm

from .erm import ERM


def focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """The mean of (1 - p)^gamma * -log(p), with p the probability of the label. Shape: (n, K), (n,); result ()."""
    negative_logs = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - torch.exp(-negative_logs)) ** gamma * negative_logs).mean()


@register_algorithm
class FocalLoss(ERM):
    """Focal loss (Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002) over the samples of all environments.

    Without weights of classes, as in Yang et al. (ECCV 2022); hparam `focal_gamma`.
    """

    hyperparameters = (Hyperparameter("focal_gamma", 1.0, lambda random: 0.5 * 10 ** random.uniform(0, 1), minimum=0),)

    def objective(self, features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        logits = self.classifier(torch.cat(features))
        return {"loss": focal_loss(logits, torch.cat(labels), self.hparams["focal_gamma"])}
