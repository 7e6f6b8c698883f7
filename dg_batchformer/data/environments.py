"""A loaded benchmark: environments that return batches of inputs by index."""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dg_batchformer.data import augment
from dg_batchformer.data.encoded import EncodedImages


def sent(values: Tensor, device: str | torch.device) -> Tensor:
    """Values on their way to a device.

    A copy to a GPU starts from pinned memory on a separate stream, while the GPU computes earlier work; later work
    waits for the copy.
    """
    device = torch.device(device)
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    stream = copy_stream()
    with torch.cuda.stream(stream):
        moved = values.pin_memory().to(device, non_blocking=True)
    current = torch.cuda.current_stream()
    current.wait_stream(stream)
    # Otherwise another copy could get the memory while it is in use.
    moved.record_stream(current)
    return moved


@functools.cache
def copy_stream() -> torch.cuda.Stream:
    """The stream of copies to the GPU."""
    return torch.cuda.Stream()


@dataclass(frozen=True)
class Samples:
    """Samples of one environment by index, and the uniform numbers that augment each, if any."""

    environment: int
    indices: Tensor
    draws: Tensor | None = None


@dataclass(frozen=True)
class TensorEnvironment:
    """One environment with inputs in memory (n, ...), such as images (n, channels, height, width).

    An augmented input is one of its `views` (n, views, ...), drawn by a uniform number; without views it is unchanged.
    """

    name: str
    images: Tensor
    labels: Tensor
    views: Tensor | None = None

    @property
    def n_draws(self) -> int:
        return 0 if self.views is None else 1

    def inputs(self, indices: Tensor, draws: Tensor | None = None, interpolation: str = "bilinear") -> Tensor:
        """The inputs of some samples; those kept in bfloat16 become float32."""
        indices = sent(indices, self.images.device)
        if draws is None or self.views is None:
            found = self.images[indices]
        else:
            chosen = (draws[:, 0] * self.views.shape[1]).long()
            found = self.views[indices, sent(chosen, self.views.device)]
        return found.float() if found.dtype == torch.bfloat16 else found


@dataclass(frozen=True)
class ImageEnvironment:
    """One environment of images, decoded, uint8 (n, height, width, 3), or encoded.

    `originals` (n, 2) are the height and width of the images on the disk, on which random crops are defined; `n_draws`
    is the number of uniform numbers that augment one image.
    """

    name: str
    images: Tensor | EncodedImages
    originals: Tensor
    labels: Tensor
    pool: ThreadPoolExecutor = field(repr=False)
    n_draws: int = augment.DRAWS

    def inputs(self, indices: Tensor, draws: Tensor | None = None, interpolation: str = "bilinear") -> Tensor:
        """Images at 224x224, normalised: augmented by `draws` (n, n_draws), or resized if None."""
        x = torch.empty(len(indices), 3, augment.SIZE, augment.SIZE)

        def put(place: int, i: int) -> None:
            # One image at a time stays in the cache of a core.
            images, out = self.images, x[place : place + 1]
            pixels = images.decoded(i) if isinstance(images, EncodedImages) else images[i].permute(2, 0, 1)
            if draws is None:
                augment.plain(pixels[None], interpolation, out)
            else:
                augment.augmented(pixels[None], [self.originals[i].tolist()], [draws[place].tolist()], out)

        list(self.pool.map(put, range(len(indices)), indices.tolist()))
        return x


Environment = TensorEnvironment | ImageEnvironment


class Split(NamedTuple):
    """Indices of one environment: the in-split is for training and test accuracy, the out-split for selection.

    With a `test` split the in-split is for training only.
    """

    inside: Tensor
    out: Tensor
    test: Tensor | None = None


def augmentation(environment: Environment, n: int, generator: torch.Generator) -> Tensor | None:
    """Uniform numbers (n, n_draws) that augment n samples; None if the environment is never augmented."""
    return torch.rand(n, environment.n_draws, generator=generator) if environment.n_draws else None


class Store(Protocol):
    """All images, for whole steps at once, as on a GPU."""

    def inputs(self, samples: Sequence[Samples], interpolation: str) -> list[Tensor]: ...


@dataclass(frozen=True)
class Dataset:
    """A loaded benchmark: its environments in DomainBed's order, with their properties.

    `splits` are the dataset's own splits by environment, each with a test split; None: a run divides it at random.
    `files` are the paths of the images by environment, below their folder (none for data without files).
    `skipped` are the skipped corrupt images, `cache` the folder of the decoded files, `resident` the images as a GPU
    reads them, `interpolation` the resize method without augmentation. `fingerprint` is a hash of the content of the
    data, equal for every copy; for image files, of their content when the cache was built.
    """

    name: str
    environments: list[Environment]
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    splits: list[Split] | None = None
    files: Sequence[Sequence[str]] = ()
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    cache: Path | None = None
    resident: Store | None = None
    interpolation: str = "bilinear"
    fingerprint: str = ""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def sizes(self) -> list[int]:
        return [len(environment.labels) for environment in self.environments]

    def sample_names(self, i: int) -> Sequence[str]:
        """The names of the samples of environment i: paths of images, else numbers."""
        return self.files[i] if self.files else [str(number) for number in range(self.sizes[i])]

    def inputs(self, samples: Sequence[Samples], device: str) -> list[Tensor]:
        """The inputs of samples of environments on `device`; all are augmented or none."""
        if self.resident:
            return self.resident.inputs(samples, self.interpolation)
        return [
            sent(self.environments[one.environment].inputs(one.indices, one.draws, self.interpolation), device)
            for one in samples
        ]


def fingerprint(parts: Iterable[bytes]) -> str:
    """16 hexadecimal digits of a hash over the parts and their order (SHA-256 of their SHA-256)."""
    whole = hashlib.sha256()
    for part in parts:
        # All have the same length, so that parts cannot shift.
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]
