"""Optimizers: by hparams, those that an algorithm holds, and their group for a module beside the featurizer."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, Optimizer

from dg_batchformer.hparams import require

MOMENTUM = 0.9


def make_optimizer(parameters: Iterable[nn.Parameter], hparams: Mapping[str, Any]) -> Optimizer:
    """A fresh optimizer over parameters: hparam `optimizer` ("adam", or "sgd" with Nesterov momentum 0.9).

    Its learning rate is hparam `lr` and its weight decay `weight_decay`; on a GPU its step is one fused kernel.
    """
    own = list(parameters)
    given = {"lr": require(hparams, "lr"), "weight_decay": require(hparams, "weight_decay")}
    # None leaves the choice to torch; on a CPU its plain loop rounds as DomainBed's steps do.
    given["fused"] = True if own[0].is_cuda else None
    # DomainBed's own hparams have no `optimizer`.
    if hparams.get("optimizer", "adam") == "sgd":
        return SGD(own, momentum=MOMENTUM, nesterov=True, **given)
    return Adam(own, **given)


def optimizers_by_name(algorithm: Any) -> dict[str, Optimizer]:
    """An algorithm's optimizers, each once, by the first name that it has."""
    named = {id(v): (name, v) for name, v in reversed(vars(algorithm).items()) if isinstance(v, Optimizer)}
    return dict(reversed(named.values()))


def groups_of(optimizer: Optimizer, module: nn.Module) -> list[int]:
    """The groups of an optimizer, by index, that hold parameters of a module."""
    own = set(module.parameters())
    return [i for i, group in enumerate(optimizer.param_groups) if not own.isdisjoint(group["params"])]


def train_beside(optimizer: Optimizer, featurizer: nn.Module, beside: nn.Module, lr_scale: float) -> None:
    """Gives an optimizer that trains the featurizer a group for a module beside it: its rate scaled, all else alike."""
    own = set(beside.parameters())
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if parameter not in own]
    if followed := groups_of(optimizer, featurizer):
        options = {**optimizer.param_groups[followed[0]], "params": list(beside.parameters())}
        optimizer.add_param_group({**options, "batchformer_follows": followed[0], "batchformer_lr_scale": lr_scale})
        follow(optimizer)
        optimizer.register_step_pre_hook(follow)


def follow(optimizer: Optimizer, *step: Any) -> None:
    """Sets such a group's learning rate by that of the featurizer's, which may be on any schedule."""
    for group in optimizer.param_groups:
        if "batchformer_follows" in group:
            group["lr"] = group["batchformer_lr_scale"] * optimizer.param_groups[group["batchformer_follows"]]["lr"]
