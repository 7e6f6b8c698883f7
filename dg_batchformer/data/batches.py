"""Minibatches: DomainBed's sampling, with replacement and by environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dg_batchformer.data.environments import Dataset, Environment
from dg_batchformer.data.splits import Split
from dg_batchformer.hparams import seed_hash

Minibatches = list[tuple[Tensor, Tensor]]
"""What a step trains on: one (x, y) per training environment."""


def balanced_weights(labels: Tensor) -> Tensor:
    """Sampling weights (n,) under which all classes that occur are equally likely."""
    return 1.0 / torch.bincount(labels)[labels].double()


class EnvironmentSampler:
    """Endless minibatches of one environment's in-split, of `batch_size` samples however few there are.

    Everything random, augmentation too, comes from one generator, which `seed` and the environment's index start.
    """

    def __init__(
        self,
        environment: Environment,
        index: int,
        inside: Tensor,
        batch_size: int,
        seed: int,
        *,
        balanced: bool,
        augment: bool,
    ) -> None:
        self.environment = environment
        self.inside = inside
        self.batch_size = batch_size
        self.weights = balanced_weights(environment.labels[inside]) if balanced else None
        self.augment = augment
        self.generator = torch.Generator().manual_seed(seed_hash(seed, "minibatches", index))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self.weights is None:
            chosen = torch.randint(len(self.inside), (self.batch_size,), generator=self.generator)
        else:
            chosen = torch.multinomial(self.weights, self.batch_size, replacement=True, generator=self.generator)
        indices = self.inside[chosen]
        x = self.environment.inputs(indices, self.generator if self.augment else None)
        return x, self.environment.labels[indices]


def minibatches(
    dataset: Dataset,
    splits: Sequence[Split],
    test_envs: Sequence[int],
    hparams: Mapping[str, Any],
    seed: int,
    device: str,
) -> Iterator[Minibatches]:
    """Endless steps of one minibatch per training environment, on `device`; the hparams are those of a run."""
    samplers = [
        EnvironmentSampler(
            environment,
            i,
            split.inside,
            hparams["batch_size"],
            seed,
            balanced=hparams["class_balanced"],
            augment=hparams["data_augmentation"],
        )
        for i, (environment, split) in enumerate(zip(dataset.environments, splits, strict=True))
        if i not in test_envs
    ]
    for step in zip(*samplers, strict=True):
        yield [(x.to(device), y.to(device)) for x, y in step]
