"""A benchmark's decoded images on a GPU, where they fit: whole steps are augmented there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dg_batchformer.data.augment_batched import augmented_batch, plain_batch
from dg_batchformer.data.environments import Dataset, Environment, ImageEnvironment, Samples, TensorEnvironment
from dg_batchformer.data.transfer import sent

SHARE = 0.5
"""Of a GPU's free memory, the most that images may take; the rest is for networks."""


@dataclass(frozen=True)
class Resident:
    """The decoded images of all environments on one device, from which whole steps are made there.

    `images` are uint8 (n, height, width, 3), environment after environment from the indices `starts` on; `originals`
    (n, 2) are the height and width of the images on the disk, on the CPU.
    """

    images: Tensor
    originals: Tensor
    starts: list[int]

    def inputs(self, samples: Sequence[Samples], interpolation: str) -> list[Tensor]:
        """The inputs of samples of environments, of which all are augmented or none."""
        indices = torch.cat([self.starts[one.environment] + one.indices for one in samples])
        images = self.images[sent(indices, self.images.device)]
        draws = [one.draws for one in samples if one.draws is not None]
        # Whoever computes in bfloat16 does not want the images in it.
        with torch.autocast(self.images.device.type, enabled=False):
            if draws:
                x = augmented_batch(images, self.originals[indices], torch.cat(draws))
            else:
                x = plain_batch(images, interpolation)
        return list(x.split([len(one.indices) for one in samples]))


def resident_images(dataset: Dataset, device: str) -> Resident | None:
    """A dataset's decoded images on a device; None where it has none, or where they do not fit there."""
    environments = [one for one in dataset.environments if isinstance(one, ImageEnvironment)]
    if not environments or not fits(sum(one.images.nbytes for one in environments), device):
        return None
    shape = environments[0].images.shape[1:]
    images = torch.empty(sum(dataset.sizes), *shape, dtype=torch.uint8, device=device)
    for place, environment in zip(images.split(dataset.sizes), environments, strict=True):
        place.copy_(environment.images)
    starts = [sum(dataset.sizes[:i]) for i in range(len(environments))]
    originals = torch.tensor([size for one in environments for size in one.originals])
    return Resident(images, originals, starts)


def fits(n_bytes: int, device: str) -> bool:
    """Whether so many bytes leave enough of a GPU's free memory."""
    if device != "cuda":
        return True
    return n_bytes <= SHARE * torch.cuda.mem_get_info()[0]


def on_gpu(dataset: Dataset, resident: Resident | None) -> Dataset:
    """A dataset whose tensors lie on the GPU as far as they fit, and whose images are those in `resident`."""
    environments: list[Environment] = []
    for one in dataset.environments:
        if isinstance(one, TensorEnvironment) and fits(one.images.nbytes, "cuda"):
            one = replace(one, images=one.images.cuda())
        environments.append(one)
    return replace(dataset, environments=environments, resident=resident)
