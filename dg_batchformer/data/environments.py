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
    """Decoded images, uint8 (n, height, width, 3), given at 224x224 and normalised by ImageNet's mean and deviation.

    `originals` are the height and width of the images on the disk, which random crops go by.
    """

    name: str
    images: Tensor
    originals: list[tuple[int, int]]
    labels: Tensor
    pool: ThreadPoolExecutor = field(repr=False)

    def inputs(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        chosen = indices.tolist()
        # All that is random is drawn here, in order, so that threads cannot change the result.
        draws = None if generator is None else torch.rand(len(chosen), augment.DRAWS, generator=generator).tolist()
        x = torch.empty(len(chosen), 3, augment.SIZE, augment.SIZE)

        def put(place: int) -> None:
            # One image at a time stays in a core's own memory.
            i = chosen[place]
            pixels, out = self.images[i : i + 1].permute(0, 3, 1, 2), x[place : place + 1]
            if draws is None:
                augment.plain(pixels, out)
            else:
                augment.augmented(pixels, [self.originals[i]], [draws[place]], out)

        list(self.pool.map(put, range(len(chosen))))
        return x


@dataclass(frozen=True)
class Dataset:
    """A benchmark, loaded: its environments in DomainBed's order and what a run needs to know of them.

    `skipped` are the corrupt images that were left out, `cache` the folder of what was decoded from files.
    """

    name: str
    environments: list[Environment]
    input_shape: tuple[int, ...]
    num_classes: int
    steps: int
    checkpoint_freq: int
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    cache: Path | None = None

    @property
    def sizes(self) -> list[int]:
        return [len(environment.labels) for environment in self.environments]
