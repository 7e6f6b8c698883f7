"""BatchFormer as a modifier: it changes the input of the loss."""

from typing import Any

import torch
from torch import Tensor, nn

from dg_batchformer.batchformer import BatchFormer, attend
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, settings
from dg_batchformer.networks import optimizers_by_name, train_beside
from dg_batchformer.registry import register_modifier

from .adapter import adapted
from .adapter.dry_run import dry_run

HYPERPARAMETERS = (
    Hyperparameter("batchformer_layers", 1, minimum=1),
    Hyperparameter("batchformer_heads", 4, minimum=1),
    Hyperparameter("batchformer_dropout", 0.5, minimum=0, maximum=1),
    Hyperparameter("batchformer_lr_scale", 1.0, minimum=0),
    Hyperparameter("batchformer_shared_classifier", True),
    Hyperparameter("batchformer_trainable", True),
    Hyperparameter("batchformer_scope", "all", choices=("all", "environment")),
    Hyperparameter("batchformer_as_released", False),
)
"""Not searched: a search over BatchFormer's settings would give the variant more attempts than its base."""


@register_modifier("BatchFormer", HYPERPARAMETERS)
def with_batchformer(cls: Any) -> Any:
    """The algorithm `cls` with BatchFormer (Hou et al., CVPR 2022, https://arxiv.org/abs/2203.01522).

    Features z and h = BatchFormer(z) are computed over the batch of the step. For each environment d the loss gets
    [z_d ; h_d] with labels [y_d ; y_d]: one classifier and one loss, with its penalties, see both. `predict` does not
    change and never uses BatchFormer.

    Args:
        cls: an algorithm class with DomainBed's contract whose instances have a `featurizer` (with `n_outputs`) and
            an optimizer, under any name, that trains it. The update may go backwards several times, make new
            optimizers or copy the network. The constructor tries a first update on a copy, and raises an InputError
            for an algorithm that cannot be wrapped.

    The result composes with `with_mixstyle` and `with_swad` in any order. Its hparams are `batchformer_layers`,
    `batchformer_heads`, `batchformer_dropout`, `batchformer_lr_scale` (of the algorithm's learning rate),
    `batchformer_shared_classifier` (False: the loss sees h only), `batchformer_trainable` (False: it keeps its random
    initial weights), `batchformer_scope` ("all", or "environment": attention inside one environment only) and
    `batchformer_as_released`: as in the paper's released scripts for ERM, CORAL, IRM and VREx, BatchFormer keeps its
    random initial weights, and the groups of IRM's penalty are equal chunks of [z ; h], one for each environment. With
    two environments these are the branches, all z and all h.
    """
    cls = adapted(cls, "BatchFormer")

    class WithBatchFormer(cls):
        beside = "batchformer"

        def __init__(self, input_shape: Any, num_classes: int, num_domains: int, hparams: Any) -> None:
            own = settings(hparams, HYPERPARAMETERS)
            super().__init__(input_shape, num_classes, num_domains, hparams)
            width, heads = self.featurizer.n_outputs, own["batchformer_heads"]
            if width % heads:
                raise InputError(
                    f"hparam 'batchformer_heads' is {heads}: expected a divisor of {width}, the width of the features"
                )
            self._batchformer_hparams = own
            self._batchformer_trains = own["batchformer_trainable"] and not own["batchformer_as_released"]
            module = BatchFormer(width, own["batchformer_layers"], heads, own["batchformer_dropout"])
            self.batchformer = module.requires_grad_(self._batchformer_trains)
            for optimizer in optimizers_by_name(self).values():
                self._join(optimizer)
            dry_run(self, WithBatchFormer)

        def features_by_environment(self, featurizer: nn.Module, minibatches: Minibatches) -> list[Tensor]:
            z = super().features_by_environment(featurizer, minibatches)
            return self._both(z, attend(self.batchformer, z, self._batchformer_hparams["batchformer_scope"]))

        def labels_by_environment(self, minibatches: Minibatches) -> list[Tensor]:
            labels = super().labels_by_environment(minibatches)
            return self._both(labels, labels)

        def _both(self, before: list[Tensor], after: list[Tensor]) -> list[Tensor]:
            """Both branches in the order of the loss, by environment."""
            if not self._batchformer_hparams["batchformer_shared_classifier"]:
                return after
            if self._batchformer_hparams["batchformer_as_released"] and is_irm(cls):
                return list(torch.cat([*before, *after]).chunk(len(before)))
            return [torch.cat(both) for both in zip(before, after, strict=True)]

        def __setattr__(self, name: str, value: Any) -> None:
            """Adds BatchFormer to every optimizer of the algorithm, whenever it makes one."""
            super().__setattr__(name, value)
            # The algorithm's __init__ makes its first optimizers before BatchFormer exists.
            if isinstance(value, torch.optim.Optimizer) and "batchformer" in vars(self).get("_modules", ()):
                self._join(value)

        def _join(self, optimizer: torch.optim.Optimizer) -> None:
            if self._batchformer_trains:
                scale = self._batchformer_hparams["batchformer_lr_scale"]
                train_beside(optimizer, self.featurizer, self.batchformer, scale)

    return WithBatchFormer


def is_irm(cls: type) -> bool:
    """Whether a class is IRM, ours or DomainBed's, or extends it."""
    return any(base.__name__ == "IRM" for base in cls.__mro__)
