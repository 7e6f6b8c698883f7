"""BatchFormer as a modifier: it changes the input of the loss."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dg_batchformer.batchformer import BatchFormer, attend
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, settings
from dg_batchformer.networks import optimizers_by_name, train_beside
from dg_batchformer.registry import register_modifier

from .adapter import Adapter, adapted
from .adapter.dry_run import dry_run

HYPERPARAMETERS = (
    Hyperparameter("batchformer_layers", 1, minimum=1),
    Hyperparameter("batchformer_heads", 4, minimum=1),
    Hyperparameter("batchformer_dropout", 0.5, minimum=0, maximum=1),
    Hyperparameter("batchformer_lr_scale", 1.0, minimum=0),
    Hyperparameter("batchformer_weight_decay", None, kinds=(float, type(None)), minimum=0),
    Hyperparameter("batchformer_loss_weight", 1.0, minimum=0),
    Hyperparameter("batchformer_penalty", "joint", choices=("joint", "separate")),
    Hyperparameter("batchformer_shared_classifier", True),
    Hyperparameter("batchformer_trainable", True),
    Hyperparameter("batchformer_scope", "all", choices=("all", "environment")),
    Hyperparameter("batchformer_as_released", False),
)
"""Not searched: a search over BatchFormer's settings would give the variant more attempts than its base."""

Objective = Callable[..., dict[str, Tensor]]
"""`objective(features, labels)` of ERM or of a subclass."""


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
    `batchformer_weight_decay` (None: the algorithm's), `batchformer_loss_weight` (of h, relative to z),
    `batchformer_penalty` ("joint": penalties see [z_d ; h_d]; "separate": each branch has its own, averaged),
    `batchformer_shared_classifier` (False: the loss sees h only), `batchformer_trainable` (False: it keeps its random
    initial weights), `batchformer_scope` ("all", or "environment": attention inside one environment only) and
    `batchformer_as_released`: as in the paper's released scripts for ERM, CORAL, IRM and VREx, BatchFormer keeps its
    random initial weights, and the groups of IRM's penalty are equal chunks of [z ; h], one for each environment. With
    two environments these are the branches, all z and all h.

    With an odd number of samples in an environment, h_d and its labels are rotated by one row: so z and h of a sample
    are in the same half of IRM's penalty, whose estimate is otherwise biased. The values of an update of an objective
    with a penalty have that of z alone, `penalty_z`.
    """
    cls = adapted(cls, "BatchFormer")

    class WithBatchFormer(cls):
        beside = "batchformer"

        def __init__(self, input_shape: Any, num_classes: int, num_domains: int, hparams: Any, **more: Any) -> None:
            own = settings(hparams, HYPERPARAMETERS)
            super().__init__(input_shape, num_classes, num_domains, hparams, **more)
            width, heads = self.featurizer.n_outputs, own["batchformer_heads"]
            if width % heads:
                raise InputError(
                    f"hparam 'batchformer_heads' is {heads}: expected a divisor of {width}, the width of the features"
                )
            changed = own["batchformer_loss_weight"] != 1 or own["batchformer_penalty"] != "joint"
            if changed and (problem := without_branches(self, own)):
                raise InputError(
                    f"hparams 'batchformer_loss_weight' and 'batchformer_penalty' are {own['batchformer_loss_weight']} "
                    f"and {own['batchformer_penalty']!r}: expected 1.0 and 'joint', since {problem}"
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
            if self._batchformer_hparams["batchformer_as_released"]:
                both = [torch.cat(one) for one in zip(before, after, strict=True)]
                return list(torch.cat([*before, *after]).chunk(len(before))) if is_irm(cls) else both
            return [torch.cat([z, h.roll(len(h) % 2, 0)]) for z, h in zip(before, after, strict=True)]

        def objective(self, *both: list[Tensor]) -> dict[str, Tensor]:
            """The objective of both branches, from their features and labels by environment."""
            own, theirs = self._batchformer_hparams, super().objective
            if without_branches(self, own):
                return theirs(*both)
            z, h = ([[rows.chunk(2)[i] for rows in one] for one in both] for i in (0, 1))
            if own["batchformer_penalty"] == "separate":
                return separate(theirs, z, h, own["batchformer_loss_weight"])
            return joint(theirs, z, h, both, own["batchformer_loss_weight"])

        def __setattr__(self, name: str, value: Any) -> None:
            """Adds BatchFormer to every optimizer of the algorithm, whenever it makes one."""
            super().__setattr__(name, value)
            # The algorithm's __init__ makes its first optimizers before BatchFormer exists.
            if isinstance(value, torch.optim.Optimizer) and "batchformer" in vars(self).get("_modules", ()):
                self._join(value)

        def _join(self, optimizer: torch.optim.Optimizer) -> None:
            if self._batchformer_trains:
                own = self._batchformer_hparams
                rate, decay = own["batchformer_lr_scale"], own["batchformer_weight_decay"]
                train_beside(optimizer, self.featurizer, self.batchformer, rate, decay)

    return WithBatchFormer


def is_irm(cls: type) -> bool:
    """Whether a class is IRM, ours or DomainBed's, or extends it."""
    return any(base.__name__ == "IRM" for base in cls.__mro__)


def without_branches(algorithm: Any, own: dict[str, Any]) -> str | None:
    """Why the loss does not have z and h of each environment as branches of its own, or None."""
    if isinstance(algorithm, Adapter):
        return "the loss of an external algorithm cannot be split into branches"
    unusual = (("batchformer_shared_classifier", False), ("batchformer_as_released", True))
    return next((f"hparam {name!r} is {value}" for name, value in unusual if own[name] is value), None)


def separate(objective: Objective, z: list[Any], h: list[Any], weight: float) -> dict[str, Tensor]:
    """The mean of the objectives of two branches; `weight` is that of h, relative to z."""
    of_z, of_h = objective(*z), objective(*h)
    values = {name: weighted(of_z[name], of_h[name], weight) for name in of_z}
    return values | ({"penalty_z": of_z["penalty"].detach()} if "penalty" in of_z else {})


def joint(objective: Objective, z: list[Any], h: list[Any], both: Any, weight: float) -> dict[str, Tensor]:
    """The objective of two branches together; `weight` is that of h's classification loss, relative to z's."""
    values = objective(*both)
    if weight != 1:
        nll = "nll" if "nll" in values else "loss"
        change = weighted(objective(*z)[nll], objective(*h)[nll], weight) - values[nll]
        values |= {name: values[name] + change for name in {nll, "loss"}}
    if "penalty" in values:
        features, labels = z
        values["penalty_z"] = objective([one.detach() for one in features], labels)["penalty"].detach()
    return values


def weighted(of_z: Tensor, of_h: Tensor, weight: float) -> Tensor:
    """The mean of two values in which h weighs `weight` times as much as z."""
    return (of_z + weight * of_h) / (1 + weight)
