"""BatchFormer as a modifier: what the loss sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dg_batchformer.batchformer import BatchFormer, attend
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, settings
from dg_batchformer.registry import compose, register_modifier

from .adapter.dry_run import check_parts, constructing, optimizers_of, try_update
from .adapter.on_features import update_on_features
from .erm import features_in_one_pass

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
"""Without samplers: a search over BatchFormer's own settings would give the variant more tries than its base."""


def with_batchformer(cls: type) -> Any:
    """The algorithm `cls` with BatchFormer (Hou et al., CVPR 2022, https://arxiv.org/abs/2203.01522).

    Features z and h = BatchFormer(z) are computed over the step's batch; the algorithm's own `update` then runs on
    [z_d ; h_d] with labels [y_d ; y_d] for each environment d, in place of inputs, so that one classifier and one
    loss, penalties included, see both. `predict` is untouched and never uses BatchFormer.

    Args:
        cls: an algorithm class with DomainBed's contract whose instances have a `featurizer` (with `n_outputs`) and
            an optimizer, under any name, that trains it. The update may go backwards several times, make its
            optimizers anew or copy the network. A first update is tried on a copy; an algorithm that cannot be
            wrapped is refused with an InputError when it is constructed.

    The result composes with `with_mixstyle` and `with_swad` in any order. Its hparams are `batchformer_layers`,
    `batchformer_heads`, `batchformer_dropout`, `batchformer_lr_scale` (of the algorithm's learning rate),
    `batchformer_shared_classifier` (False: the loss sees h alone), `batchformer_trainable` (False: it stays at its
    random start), `batchformer_scope` ("all", or "environment": attention inside one environment only) and
    `batchformer_as_released`: what the paper's released scripts for ERM, CORAL, IRM and VREx did, where BatchFormer
    stays at its random start and IRM's penalty takes as its groups the chunks of [z ; h], as many as there are
    environments: with two these are the branches, all z and all h.
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
            with constructing(cls.__name__, "BatchFormer"):
                super().__init__(input_shape, num_classes, num_domains, hparams)
            check_parts(self, cls.__name__, "BatchFormer")
            width = self.featurizer.n_outputs
            if width % own["batchformer_heads"]:
                raise InputError(
                    f"hparam 'batchformer_heads' is {own['batchformer_heads']}: expected a divisor of "
                    f"{width}, the width of the features"
                )
            self._batchformer_hparams = own
            self._batchformer_trains = own["batchformer_trainable"] and not own["batchformer_as_released"]
            self.batchformer = BatchFormer(
                width, own["batchformer_layers"], own["batchformer_heads"], own["batchformer_dropout"]
            ).requires_grad_(self._batchformer_trains)
            for optimizer in optimizers_of(self):
                self._give_to(optimizer)
            given = (input_shape, num_classes, num_domains)
            trained = "batchformer" if self._batchformer_trains else ""
            try_update(self, WithBatchFormer.update, (cls.__name__, "BatchFormer"), given, trained)

        def __setattr__(self, name: str, value: Any) -> None:
            """Gives BatchFormer's parameters to whatever optimizer the algorithm makes, and whenever it does."""
            super().__setattr__(name, value)
            # The algorithm's own __init__ makes its first optimizers before BatchFormer is there.
            if isinstance(value, torch.optim.Optimizer) and "batchformer" in vars(self).get("_modules", ()):
                self._give_to(value)

        def _give_to(self, optimizer: torch.optim.Optimizer) -> None:
            if self._batchformer_trains:
                scale = self._batchformer_hparams["batchformer_lr_scale"]
                add_beside(optimizer, self.featurizer, self.batchformer, scale)

        def update(self, minibatches: Minibatches, unlabeled: Any = None) -> dict[str, float]:
            own = self._batchformer_hparams
            labels = [y for _, y in minibatches]

            def features(featurizer: nn.Module, batchformer: Any) -> list[Tensor]:
                before = features_of(self, featurizer, minibatches)
                after = attend(batchformer, before, own["batchformer_scope"])
                if not own["batchformer_shared_classifier"]:
                    return after
                if in_chunks:
                    return list(torch.cat([*before, *after]).chunk(len(before)))
                return [torch.cat([z, h]) for z, h in zip(before, after, strict=True)]

            in_chunks = own["batchformer_as_released"] and own["batchformer_shared_classifier"] and is_irm(cls)
            if in_chunks:
                labels = list(torch.cat(labels * 2).chunk(len(labels)))
            elif own["batchformer_shared_classifier"]:
                labels = [torch.cat([y, y]) for y in labels]
            wanted = (cls.__name__, "BatchFormer")
            network: Any = getattr(self, "network", self.featurizer)
            with among_parameters(network, self.batchformer if self._batchformer_trains else None):
                return update_on_features(self, super().update, wanted, labels, features, self.batchformer, unlabeled)

    return WithBatchFormer


def is_irm(cls: type) -> bool:
    """Whether a class is IRM, ours or DomainBed's, or extends it."""
    return any(base.__name__ == "IRM" for base in cls.__mro__)


@contextmanager
def among_parameters(network: nn.Module, batchformer: nn.Module | None) -> Iterator[None]:
    """While this lasts, BatchFormer's parameters are the last of the network's, though not in its `state_dict`.

    So it takes part in what an algorithm does with all parameters of the network, or of a copy.
    """
    last = list(network.modules())[-1]  # without modules of its own, so that no `forward` meets what is added
    parameters = list(batchformer.parameters()) if batchformer else []
    added = {f"batchformer_in_update_{i}": parameter for i, parameter in enumerate(parameters)}

    def leave_out(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        for name in added:
            state.pop(prefix + name, None)

    last._parameters.update(added)
    hook = last._register_state_dict_hook(leave_out)
    try:
        yield
    finally:
        hook.remove()
        for name in added:
            del last._parameters[name]


def add_beside(optimizer: torch.optim.Optimizer, featurizer: nn.Module, batchformer: nn.Module, scale: float) -> None:
    """Gives an optimizer that trains the featurizer a group for BatchFormer: the featurizer's, its rate scaled."""
    own, backbone = set(batchformer.parameters()), set(featurizer.parameters())
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if parameter not in own]
    beside = [i for i, group in enumerate(optimizer.param_groups) if not backbone.isdisjoint(group["params"])]
    if beside:
        options = {**optimizer.param_groups[beside[0]], "params": list(batchformer.parameters())}
        optimizer.add_param_group({**options, "batchformer_follows": beside[0], "batchformer_lr_scale": scale})
        follow(optimizer)
        optimizer.register_step_pre_hook(follow)


def follow(optimizer: torch.optim.Optimizer, *step: Any) -> None:
    """Sets BatchFormer's learning rate by that of the featurizer's group, whatever schedule that one is on."""
    for group in optimizer.param_groups:
        if "batchformer_follows" in group:
            group["lr"] = group["batchformer_lr_scale"] * optimizer.param_groups[group["batchformer_follows"]]["lr"]


def features_of(algorithm: Any, featurizer: nn.Module, minibatches: Minibatches) -> list[Tensor]:
    """Features by environment, as the algorithm itself computes them where it says how."""
    own = getattr(algorithm, "features_by_environment", features_in_one_pass)
    features: list[Tensor] = own(featurizer, minibatches)
    return features
