"""Risk extrapolation by variance."""

from torch import Tensor

from dg_batchformer.registry import register_algorithm

from .annealed import AnnealedPenalty, annealed_hyperparameters


def variance_penalty(losses: Tensor, mean: Tensor) -> Tensor:
    """Variance (divided by D, not D - 1) of the environments' losses (D,), given their mean ()."""
    return ((losses - mean) ** 2).mean()


@register_algorithm
class VREx(AnnealedPenalty):
    """Variance risk extrapolation, V-REx (Krueger et al., ICML 2021, https://arxiv.org/abs/2003.00688).

    The mean of the environments' cross-entropies + weight * their variance; the variant is DomainBed's
    (`vrex_lambda` from step `vrex_penalty_anneal_iters` on, weight 1 before). `nll` is the mean over the
    environments; DomainBed logs the last environment's.
    """

    method = "vrex"
    hyperparameters = annealed_hyperparameters("vrex", 1e1)

    def penalty(self, logits: list[Tensor], labels: list[Tensor], losses: Tensor, nll: Tensor) -> Tensor:
        return variance_penalty(losses, nll)
