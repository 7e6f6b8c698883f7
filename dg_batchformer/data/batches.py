"""Minibatches: which samples each step takes, in DomainBed's way and in Transfer-Learning-Library's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dg_batchformer.data.environments import Dataset, Samples, augmentation, sent
from dg_batchformer.data.splits import Split
from dg_batchformer.hparams import seed_hash

Minibatches = list[tuple[Tensor, Tensor]]
"""What a step trains on: one (x, y) per training environment."""


Step = list[list[Samples]]
"""The samples of a step: by minibatch, and in it by environment."""


def balanced_weights(labels: Tensor) -> Tensor:
    """Sampling weights (n,) under which all classes that occur are equally likely."""
    return 1.0 / torch.bincount(labels)[labels].double()


@dataclass(frozen=True)
class Training:
    """What minibatches are made of: the in-splits of a dataset's training environments, and how.

    `batch_size` is per environment, and `seed` starts all that is random.
    """

    dataset: Dataset
    splits: Sequence[Split]
    environments: Sequence[int]
    batch_size: int
    seed: int
    balanced: bool = False
    augment: bool = True

    def samples(self, i: int, indices: Tensor, generator: torch.Generator) -> Samples:
        """Samples of environment i, with what augments them."""
        environment = self.dataset.environments[i]
        return Samples(i, indices, augmentation(environment, len(indices), generator) if self.augment else None)


def with_replacement(training: Training) -> Iterator[Step]:
    """DomainBed's endless steps: `batch_size` samples of each environment, however few it has, with replacement.

    Each environment has a generator of its own, so that its samples do not depend on which others train.
    """
    inside = {i: training.splits[i].inside for i in training.environments}
    generators = {i: torch.Generator().manual_seed(seed_hash(training.seed, "minibatches", i)) for i in inside}
    weights = {i: balanced_weights(training.dataset.environments[i].labels[own]) for i, own in inside.items()}
    while True:
        step = []
        for i, generator in generators.items():
            if training.balanced:
                chosen = torch.multinomial(weights[i], training.batch_size, replacement=True, generator=generator)
            else:
                chosen = torch.randint(len(inside[i]), (training.batch_size,), generator=generator)
            step.append([training.samples(i, inside[i][chosen], generator)])
        yield step


def without_replacement(training: Training, n_environments: int) -> Iterator[Step]:
    """Endless steps of `batch_size` samples of each of `n_environments` random environments, in random order.

    As in Transfer-Learning-Library's RandomDomainSampler, a pass takes each sample at most once and ends when one of a
    step's environments has too few left for another batch. One that is smaller than the batch gives its samples with
    replacement.
    """
    generator = torch.Generator().manual_seed(seed_hash(training.seed, "minibatches"))
    n = training.batch_size
    while True:
        left = {i: shuffled(training.splits[i].inside, generator) for i in training.environments}
        ended = False
        while not ended:
            order = torch.randperm(len(training.environments), generator=generator)[:n_environments]
            step = []
            for i in (training.environments[place] for place in order.tolist()):
                taken, left[i] = take(left[i], n, generator)
                ended = ended or len(left[i]) < n
                step.append([training.samples(i, taken, generator)])
            yield step


def pooled(training: Training, n: int) -> Iterator[Step]:
    """Endless steps of one minibatch of n samples of all environments together, in passes over all, shuffled.

    As Transfer-Learning-Library trains what does not look at environments. The last samples of a pass, too few for
    another minibatch, are left out.
    """
    generator = torch.Generator().manual_seed(seed_hash(training.seed, "minibatches"))
    insides = [(i, training.splits[i].inside) for i in training.environments]
    numbered = [torch.stack([torch.full_like(inside, i), inside], 1) for i, inside in insides]
    while True:
        left = shuffled(torch.cat(numbered), generator)
        while True:
            taken, left = take(left, n, generator)
            parts = [(i, taken[taken[:, 0] == i, 1]) for i in training.environments]
            yield [[training.samples(i, indices, generator) for i, indices in parts if len(indices)]]
            if len(left) < n:
                break


def shuffled(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Samples in random order."""
    return samples[torch.randperm(len(samples), generator=generator)]


def take(samples: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first n samples and the rest; where there are fewer, n of them with replacement, and none."""
    if len(samples) < n:
        return samples[torch.randint(len(samples), (n,), generator=generator)], samples[:0]
    return samples[:n], samples[n:]


def load(dataset: Dataset, steps: Iterator[Step], device: str) -> Iterator[Minibatches]:
    """The minibatches of endless steps, on `device`."""
    for step in steps:
        inputs = iter(dataset.inputs([samples for minibatch in step for samples in minibatch], device))
        labels = [[dataset.environments[one.environment].labels[one.indices] for one in part] for part in step]
        yield [(joined([next(inputs) for _ in part]), sent(joined(part), device)) for part in labels]


def joined(parts: list[Tensor]) -> Tensor:
    """Tensors one after another; a single one itself."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
