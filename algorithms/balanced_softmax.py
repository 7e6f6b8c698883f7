"""Balanced softmax, for long tails."""

import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.registry import register_algorithm

from .counted import CountedLoss


def balanced_cross_entropy(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy of logits (n, K) shifted by the logarithms of the class counts (K,); 0 counts as 1."""
    return F.cross_entropy(logits + counts.clamp(min=1).log(), labels)


@register_algorithm
class BalancedSoftmax(CountedLoss):
    """Balanced softmax (Ren et al., NeurIPS 2020, https://arxiv.org/abs/2007.10740) by environment.

    The mean of the environments' cross-entropies, with logits shifted by the logarithms of the class counts of the
    environment, as in Yang et al. (ECCV 2022); `predict` has no shift.
    """

    def loss(self, logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        return balanced_cross_entropy(logits, labels, counts)
