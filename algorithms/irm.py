"""Invariant risk minimisation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.errors import InputError
from dg_batchformer.registry import register_algorithm

from .annealed import AnnealedPenalty, annealed_hyperparameters


def irm_penalty(logits: Tensor, labels: Tensor) -> Tensor:
    """Product of the gradients of two halves of an environment with respect to a scale of 1 on the logits.

    The halves are the samples at even and at odd positions, so the product is an unbiased estimate of the squared
    gradient norm of IRMv1; it may be negative.

    Shape: logits (n, num_classes), labels (n,), n >= 2; result ().
    """
    if len(logits) < 2:
        raise InputError(f"an environment has {len(logits)} sample(s): IRM needs at least 2, use a larger batch_size")
    scale = torch.ones((), device=logits.device, requires_grad=True)
    gradients = [
        torch.autograd.grad(F.cross_entropy(logits[half::2] * scale, labels[half::2]), scale, create_graph=True)[0]
        for half in (0, 1)
    ]
    return gradients[0] * gradients[1]


@register_algorithm
class IRM(AnnealedPenalty):
    """Invariant risk minimisation, IRMv1 (Arjovsky et al., 2019, https://arxiv.org/abs/1907.02893).

    The mean over environments of cross-entropy + weight * penalty; the variant is DomainBed's (unbiased two-half
    estimate of the penalty, `irm_lambda` from step `irm_penalty_anneal_iters` on, weight 1 before).
    """

    method = "irm"
    hyperparameters = annealed_hyperparameters("irm", 1e2)

    def penalty(self, logits: list[Tensor], labels: list[Tensor], losses: Tensor, nll: Tensor) -> Tensor:
        return torch.stack([irm_penalty(one, y) for one, y in zip(logits, labels, strict=True)]).mean()
