"""BatchFormer as a modifier: what the loss sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dg_batchformer.batchformer import BatchFormer, attend
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, settings
from dg_batchformer.registry import compose, register_modifier

from .erm import features_in_one_pass
from .on_features import check_wrappable, update_on_features

HYPERPARAMETERS = (
    Hyperparameter("batchformer_layers", 1, minimum=1),
    Hyperparameter("batchformer_heads", 4, minimum=1),
    Hyperparameter("batchformer_dropout", 0.5, minimum=0, maximum=1),
    Hyperparameter("batchformer_lr_scale", 1.0, minimum=0),
    Hyperparameter("batchformer_shared_classifier", True),
    Hyperparameter("batchformer_trainable", True),
    Hyperparameter("batchformer_scope", "all", choices=("all", "environment")),
)
"""Without samplers: a search over BatchFormer's own settings would give the variant more tries than its base."""


def with_batchformer(cls: type) -> Any:
    """The algorithm `cls` with BatchFormer (Hou et al., CVPR 2022, https://arxiv.org/abs/2203.01522).

    Features z and h = BatchFormer(z) are computed once over the step's batch; then the algorithm's own `update`
    runs on [z_d ; h_d] with labels [y_d ; y_d] for each environment d, its featurizer passing them through, so that
    one classifier and one loss, penalties included, see both. `predict` is untouched and never uses BatchFormer.

    Args:
        cls: an algorithm class with DomainBed's contract whose instances have `featurizer` (with `n_outputs`),
            `classifier`, `network` = Sequential(featurizer, classifier) and one `optimizer`. Another one is refused
            with an InputError when it is constructed.

    The result composes with `with_mixstyle` and `with_swad` in any order. Its hparams are `batchformer_layers`,
    `batchformer_heads`, `batchformer_dropout`, `batchformer_lr_scale` (of the algorithm's learning rate),
    `batchformer_shared_classifier` (False: the loss sees h alone), `batchformer_trainable` (False: it stays at its
    random start) and `batchformer_scope` ("all", or "environment": attention inside one environment only).
    """
    return compose(cls, "BatchFormer")


@register_modifier("BatchFormer")
def _batchformer(cls: Any) -> type:
    class WithBatchFormer(cls):
        __doc__ = f"{cls.__name__} with BatchFormer.\n\n{cls.__doc__}"
        __module__ = cls.__module__
        hyperparameters = (*getattr(cls, "hyperparameters", ()), *HYPERPARAMETERS)

        def __init__(self, input_shape: Any, num_classes: int, num_domains: int, hparams: Any) -> None:
            own = settings(hparams, HYPERPARAMETERS)
            super().__init__(input_shape, num_classes, num_domains, hparams)
            check_wrappable(self, cls.__name__, "BatchFormer")
            if self.featurizer.n_outputs % own["batchformer_heads"]:
                raise InputError(
                    f"hparam 'batchformer_heads' is {own['batchformer_heads']}: expected a divisor of "
                    f"{self.featurizer.n_outputs}, the width of the features"
                )
            self._batchformer_hparams = own
            self.batchformer = BatchFormer(
                self.featurizer.n_outputs,
                own["batchformer_layers"],
                own["batchformer_heads"],
                own["batchformer_dropout"],
            ).requires_grad_(own["batchformer_trainable"])
            self._give_to(self.optimizer)

        @property
        def optimizer(self) -> torch.optim.Optimizer:
            return self._optimizer

        @optimizer.setter
        def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
            """Adds BatchFormer's parameters to whatever optimizer the algorithm makes, and whenever it does."""
            self._optimizer = optimizer
            # The algorithm's own __init__ makes its first optimizer before BatchFormer is there.
            if "batchformer" in self._modules:
                self._give_to(optimizer)

        def _give_to(self, optimizer: torch.optim.Optimizer) -> None:
            if self._batchformer_hparams["batchformer_trainable"]:
                lr = optimizer.param_groups[0]["lr"] * self._batchformer_hparams["batchformer_lr_scale"]
                optimizer.add_param_group({"params": list(self.batchformer.parameters()), "lr": lr})

        def update(self, minibatches: Minibatches, unlabeled: Any = None) -> dict[str, float]:
            before = features_of(self, minibatches)
            after = attend(self.batchformer, before, self._batchformer_hparams["batchformer_scope"])
            labels = [y for _, y in minibatches]
            if self._batchformer_hparams["batchformer_shared_classifier"]:
                joined = [(torch.cat([z, h]), torch.cat([y, y])) for z, h, y in zip(before, after, labels, strict=True)]
            else:
                joined = list(zip(after, labels, strict=True))
            return update_on_features(self, super().update, "BatchFormer", joined, unlabeled)

    return WithBatchFormer


def features_of(algorithm: Any, minibatches: Minibatches) -> list[Tensor]:
    """Features by environment, as the algorithm itself computes them where it says how."""
    own: Callable[[Minibatches], list[Tensor]] | None = getattr(algorithm, "features", None)
    return own(minibatches) if own else features_in_one_pass(algorithm.featurizer, minibatches)
