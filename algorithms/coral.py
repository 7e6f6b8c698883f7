"""Correlation alignment."""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, require
from dg_batchformer.registry import register_algorithm

from .erm import ERM


def coral_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of the means plus that of the covariances of two sets of features.

    Shape: x (n, C), y (m, C), n and m at least 2; result ().
    """
    mean_difference = (x.mean(0, keepdim=True) - y.mean(0, keepdim=True)).pow(2).mean()
    covariance_difference = (covariance(x) - covariance(y)).pow(2).mean()
    return mean_difference + covariance_difference


def covariance(x: Tensor) -> Tensor:
    """Unbiased covariance (C, C) of features (n, C)."""
    centred = x - x.mean(0, keepdim=True)
    return centred.T @ centred / (len(x) - 1)


@register_algorithm
class CORAL(ERM):
    """Deep CORAL over pairs of environments (Sun & Saenko, ECCV 2016, https://arxiv.org/abs/1607.01719).

    The mean of the environments' cross-entropies + `mmd_gamma` * the mean distance over all pairs. The variant
    is DomainBed's (and Transfer-Learning-Library's): the distance has a term for the means, and both terms are averaged
    over their entries; the paper has only the covariances, divided by 4 C^2. As in DomainBed, each environment has its
    own forward pass, which matters if batch norm is not frozen.
    """

    hyperparameters: tuple[Hyperparameter, ...] = (Hyperparameter("mmd_gamma", 1.0, lambda r: 10 ** r.uniform(-1, 1)),)

    def features_by_environment(self, featurizer: nn.Module, minibatches: Minibatches) -> list[Tensor]:
        return [featurizer(x) for x, _ in minibatches]

    def objective(self, features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        smallest = min(len(one) for one in features)
        if smallest < 2:
            raise InputError(
                f"an environment has {smallest} sample(s): CORAL needs at least 2, use a larger batch_size"
            )
        logits = [self.classifier(z) for z in features]
        nll = torch.stack([F.cross_entropy(one, y) for one, y in zip(logits, labels, strict=True)]).mean()
        distances = [coral_distance(x, y) for x, y in combinations(features, 2)]
        penalty = torch.stack(distances).mean() if distances else torch.zeros_like(nll)
        return {"loss": nll + require(self.hparams, "mmd_gamma") * penalty, "nll": nll, "penalty": penalty}
