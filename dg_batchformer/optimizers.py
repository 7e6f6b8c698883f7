"""Optimizers by hparams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from dg_batchformer.hparams import require

MOMENTUM = 0.9


def make_optimizer(parameters: Iterable[nn.Parameter], hparams: Mapping[str, Any]) -> torch.optim.Optimizer:
    """A fresh optimizer over parameters: hparam `optimizer` ("adam", or "sgd" with Nesterov momentum 0.9).

    Its learning rate is hparam `lr` and its weight decay `weight_decay`; on a GPU its step is one fused kernel.
    """
    own = list(parameters)
    given = {"lr": require(hparams, "lr"), "weight_decay": require(hparams, "weight_decay")}
    # None leaves the choice to torch; on a CPU its plain loop rounds as DomainBed's steps do.
    given["fused"] = True if own[0].is_cuda else None
    # DomainBed's own hparams have no `optimizer`.
    if hparams.get("optimizer", "adam") == "sgd":
        return torch.optim.SGD(own, momentum=MOMENTUM, nesterov=True, **given)
    return torch.optim.Adam(own, **given)
