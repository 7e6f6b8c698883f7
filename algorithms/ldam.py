"""Label-distribution-aware margins, for long tails."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.hparams import Hyperparameter
from dg_batchformer.registry import register_algorithm

from .counted import CountedLoss


def margins(counts: Tensor, largest: float) -> Tensor:
    """The margins of the classes (K,), proportional to counts^(-1/4); the rarest class has the `largest`.

    A class without images has margin 0. Shape: counts (K,), result (K,).
    """
    rarity = torch.where(counts > 0, counts.clamp(min=1) ** -0.25, 0.0)
    return rarity * (largest / rarity.max())


def margin_cross_entropy(logits: Tensor, labels: Tensor, margin: Tensor, scale: float) -> Tensor:
    """Cross-entropy of scaled logits (n, K); the label's logit is reduced by the margin (K,) of its class."""
    return F.cross_entropy(scale * (logits - margin * F.one_hot(labels, len(margin))), labels)


@register_algorithm
class LDAM(CountedLoss):
    """LDAM loss (Cao et al., NeurIPS 2019, https://arxiv.org/abs/1906.07413) by environment.

    The mean of the environments' cross-entropies with margins for their class counts (`ldam_max_margin`) and scaled
    logits (`ldam_scale`). The variant is that of Yang et al. (ECCV 2022): the classifier is not normalised, and there
    is no deferred re-weighting.
    """

    hyperparameters = (
        Hyperparameter("ldam_max_margin", 0.5, lambda random: 10 ** random.uniform(-1, -0.1), minimum=0),
        Hyperparameter("ldam_scale", 30.0, lambda random: random.choice([10.0, 30.0]), minimum=0),
    )

    def loss(self, logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        margin = margins(counts, self.hparams["ldam_max_margin"])
        return margin_cross_entropy(logits, labels, margin, self.hparams["ldam_scale"])
