"""What a loaded benchmark is: environments that give batches of inputs by index."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dg_batchformer.data import augment


class Environment(Protocol):
    """One environment: labels (n,), and inputs by index, augmented where a generator is given."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> Tensor: ...

    def inputs(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor: ...


@dataclass(frozen=True)
class TensorEnvironment:
    """Inputs that lie in memory, float (n, channels, height, width); never augmented."""

    name: str
    images: Tensor
    labels: Tensor

    def inputs(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.images[indices]


@dataclass(frozen=True)
class ImageEnvironment:
    """Image files, decoded when they are asked for, at 224x224 and normalised by ImageNet's mean and deviation."""

    name: str
    paths: list[Path]
    labels: Tensor
    pool: ThreadPoolExecutor = field(repr=False)

    def inputs(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        paths = [self.paths[i] for i in indices.tolist()]
        if generator is None:
            images = self.pool.map(augment.plain, paths)
        else:
            # All that is random is drawn here, in order, so that threads cannot change the result.
            draws = torch.rand(len(paths), augment.DRAWS, generator=generator).tolist()
            images = self.pool.map(augment.augmented, paths, draws)
        return augment.normalise(torch.stack(list(images)))


@dataclass(frozen=True)
class Dataset:
    """A benchmark, loaded: its environments in DomainBed's order and what a run needs to know of them."""

    name: str
    environments: list[Environment]
    input_shape: tuple[int, ...]
    num_classes: int
    steps: int
    checkpoint_freq: int
    notes: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        return [len(environment.labels) for environment in self.environments]
