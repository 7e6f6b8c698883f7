"""The minibatches of a run: DomainBed's, and Transfer-Learning-Library's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dg_batchformer.data.environments import Dataset, Samples, Split, augmentation, sent
from dg_batchformer.hparams import seed_hash

Minibatches = list[tuple[Tensor, Tensor]]
"""The data of a step: one (x, y) for each training environment."""

Step = list[list[Samples]]
"""The samples of a step, by minibatch and environment."""


@dataclass(frozen=True)
class Training:
    """The source of minibatches: the in-splits of a dataset's training environments.

    `batch_size` is per environment; `seed` seeds all generators.
    """

    dataset: Dataset
    splits: Sequence[Split]
    environments: Sequence[int]
    batch_size: int
    seed: int
    balanced: bool = False
    augment: bool = True

    def generator(self, *of: int) -> torch.Generator:
        """A new generator for one environment or for all."""
        return torch.Generator().manual_seed(seed_hash(self.seed, "minibatches", *of))

    def samples(self, i: int, indices: Tensor, generator: torch.Generator) -> Samples:
        """Samples of environment i, with their random numbers for augmentation."""
        environment = self.dataset.environments[i]
        return Samples(i, indices, augmentation(environment, len(indices), generator) if self.augment else None)


def with_replacement(training: Training) -> Iterator[Step]:
    """DomainBed's endless steps: `batch_size` samples of each environment, with replacement.

    Each environment has its own generator, so that its samples do not depend on the other training environments.
    """
    n = training.batch_size
    inside = {i: training.splits[i].inside for i in training.environments}
    generators = {i: training.generator(i) for i in inside}
    weights = {i: balanced_weights(training.dataset.environments[i].labels[own]) for i, own in inside.items()}
    while True:
        step = []
        for i, generator in generators.items():
            if training.balanced:
                chosen = torch.multinomial(weights[i], n, replacement=True, generator=generator)
            else:
                chosen = torch.randint(len(inside[i]), (n,), generator=generator)
            step.append([training.samples(i, inside[i][chosen], generator)])
        yield step


def balanced_weights(labels: Tensor) -> Tensor:
    """Sampling weights (n,) that make all present classes equally likely."""
    return 1.0 / torch.bincount(labels)[labels].double()


def without_replacement(training: Training, n_environments: int) -> Iterator[Step]:
    """Endless steps of `batch_size` samples of each of `n_environments` random environments, in random order.

    As in Transfer-Learning-Library's RandomDomainSampler, a pass takes each sample at most once and ends when an
    environment of the step has too few left for another batch. An environment smaller than the batch is sampled with
    replacement.
    """
    generator = training.generator()
    while True:
        left = {i: shuffled(training.splits[i].inside, generator) for i in training.environments}
        ended = False
        while not ended:
            order = torch.randperm(len(training.environments), generator=generator)[:n_environments]
            step = []
            for i in (training.environments[place] for place in order.tolist()):
                taken, left[i] = take(left[i], training.batch_size, generator)
                ended = ended or len(left[i]) < training.batch_size
                step.append([training.samples(i, taken, generator)])
            yield step


def pooled(training: Training, n: int) -> Iterator[Step]:
    """Endless steps of one minibatch of n samples of all environments together, in shuffled passes.

    As in Transfer-Learning-Library for objectives that ignore environments. The last samples of a pass, too few for
    a minibatch, are dropped.
    """
    generator = training.generator()
    insides = [(i, training.splits[i].inside) for i in training.environments]
    numbered = torch.cat([torch.stack([torch.full_like(inside, i), inside], 1) for i, inside in insides])
    left = numbered[:0]
    while True:
        if len(left) < n:
            left = shuffled(numbered, generator)
        taken, left = take(left, n, generator)
        parts = [(i, taken[taken[:, 0] == i, 1]) for i in training.environments]
        yield [[training.samples(i, indices, generator) for i, indices in parts if len(indices)]]


def shuffled(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Samples in random order."""
    return samples[torch.randperm(len(samples), generator=generator)]


def take(samples: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first n samples and the rest; if there are fewer, n of them with replacement and an empty rest."""
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
    """Tensors concatenated; a single tensor is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
