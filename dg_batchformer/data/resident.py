"""The images of a benchmark on a GPU, decoded if they fit, and the transforms of `augment` for whole steps.

The CPU computes everything that depends only on the random numbers, and sends it to the GPU in two copies without a
wait. The same numbers give the same images as `augment`, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.data import augment
from dg_batchformer.data.augment import CROP_TRIES, SIZE
from dg_batchformer.data.encoded import EncodedImages
from dg_batchformer.data.environments import Dataset, Environment, ImageEnvironment, Samples, TensorEnvironment, sent


@dataclass(frozen=True)
class Resident:
    """The images of all environments, from which one device makes whole steps.

    `images` are there, uint8 (n, height, width, 3), or encoded, sorted by environment; environment i begins at
    `starts[i]`. `originals` (n, 2), on the CPU, are the height and width of the images on the disk.
    """

    images: Tensor | EncodedImages
    originals: Tensor
    starts: list[int]
    device: str

    def inputs(self, samples: Sequence[Samples], interpolation: str) -> list[Tensor]:
        """The inputs of samples of environments; all are augmented or none."""
        indices = torch.cat([self.starts[one.environment] + one.indices for one in samples])
        if isinstance(self.images, EncodedImages):
            images = sent(self.images.batch(indices, self.device), self.device)
        else:
            images = self.images[sent(indices, self.device)]
        draws = [one.draws for one in samples if one.draws is not None]
        # Images stay in float32 under autocast.
        with torch.autocast(images.device.type, enabled=False):
            if draws:
                x = augmented_batch(images, self.originals[indices], torch.cat(draws))
            else:
                x = plain_batch(images, interpolation)
        return list(x.split([len(one.indices) for one in samples]))


def resident_images(dataset: Dataset, device: str) -> Resident | None:
    """The decoded images of a dataset on a device; None if it has none or they do not fit."""
    environments = [one for one in dataset.environments if isinstance(one, ImageEnvironment)]
    if not environments or not fits(sum(one.images.nbytes for one in environments), device):
        return None
    sizes = dataset.sizes
    images = torch.empty(sum(sizes), *environments[0].images.shape[1:], dtype=torch.uint8, device=device)
    for place, environment in zip(images.split(sizes), environments, strict=True):
        if isinstance(environment.images, EncodedImages):
            for rows in torch.arange(len(place)).split(512):
                place[rows] = environment.images.batch(rows, device).to(device)
        else:
            place.copy_(environment.images)
    return resident_of(environments, images, device)


def streamed_images(dataset: Dataset, device: str) -> Resident | None:
    """The encoded images of a dataset, which each step decodes; None if they are not encoded."""
    environments = [one for one in dataset.environments if isinstance(one, ImageEnvironment)]
    encoded = [one.images for one in environments if isinstance(one.images, EncodedImages)]
    if not encoded:
        return None
    images = replace(encoded[0], bounds=torch.cat([one.bounds for one in encoded]))
    return resident_of(environments, images, device)


def resident_of(environments: Sequence[ImageEnvironment], images: Tensor | EncodedImages, device: str) -> Resident:
    """The images of some environments as a device reads them."""
    sizes = [len(one.labels) for one in environments]
    originals = torch.cat([one.originals for one in environments])
    return Resident(images, originals, [sum(sizes[:i]) for i in range(len(sizes))], device)


def fits(n_bytes: int, device: str) -> bool:
    """Whether these bytes leave half of the free GPU memory for the networks."""
    return device != "cuda" or n_bytes <= 0.5 * torch.cuda.mem_get_info()[0]


def on_gpu(dataset: Dataset, resident: Resident | None) -> Dataset:
    """The dataset with its tensors on the GPU, if they fit, and its images in `resident`, else decoded step by step."""
    resident = resident or streamed_images(dataset, "cuda")

    def moved(one: Environment) -> Environment:
        if isinstance(one, TensorEnvironment) and fits(one.images.nbytes, "cuda"):
            return replace(one, images=one.images.cuda())
        return one

    return replace(dataset, environments=[moved(one) for one in dataset.environments], resident=resident)


TURNS = range(4)
CONTRAST, SATURATION, HUE = 1, 2, 3
"""Columns of the colour changes in the draws, after brightness."""


class Plan(NamedTuple):
    """The colour changes of n images, on their device.

    In each of four rounds an image moves by one of `amounts` away from black, from its mean gray if `from_mean` is 1,
    or from its grays if `from_gray` is 1. The hue of some images changes: their rows (m), the channels (m, 3, 3) that
    each channel comes from, turns to and turns from, and the share of the chroma (m) by which it moves.
    """

    boxes: Tensor  # (n, 4)
    flip: Tensor  # (n), ones and zeros as in all that follow
    gray: Tensor
    amounts: Tensor  # (4, n)
    from_mean: Tensor
    from_gray: Tensor
    hues: list[tuple[Tensor, Tensor, Tensor]]


def plain_batch(images: Tensor, interpolation: str = "bilinear") -> Tensor:
    """Images (n, height, width, 3) resized as `augment.plain` does it, rounded to eight bits after each axis."""
    resized = images.permute(0, 3, 1, 2).float()
    for size in ((images.shape[1], SIZE), (SIZE, SIZE)):
        resized = F.interpolate(resized, size, mode=interpolation, antialias=True).round_().clamp_(0, 255)
    return augment.normalise(resized.contiguous().div_(255))


def augmented_batch(images: Tensor, originals: Tensor, draws: Tensor) -> Tensor:
    """Images (n, height, width, 3) as `augment.augmented` changes them.

    `originals` (n, 2) are the height and width that each had on the disk; these and `draws` (n, DRAWS) are on the CPU.
    """
    plan = planned(originals, draws, images)
    x = cropped(images, plan.boxes, plan.flip).div_(255)
    for turn in TURNS:
        gray = augment.luma(x)
        mean = gray.mean(dim=(-2, -1), keepdim=True)
        base = (gray * each(plan.from_gray[turn])).addcmul_(mean, each(plan.from_mean[turn]))
        x.lerp_(base, -each(plan.amounts[turn])).clamp_(0, 1)
        rows, channels, shares = plan.hues[turn]
        if len(rows):
            x[rows] = hue(x, rows, channels, shares)
    return augment.normalise(torch.where(each(plan.gray) > 0, augment.luma(x), x))


def planned(originals: Tensor, draws: Tensor, images: Tensor) -> Plan:
    """The changes of `images` according to `draws`, sent to their device."""
    kept = images.shape[1:3]
    boxes = [augment.crop(a, kept, row) for a, row in zip(originals.tolist(), draws.tolist(), strict=True)]
    flip, gray, *rest = draws[:, 4 * CROP_TRIES :].unbind(1)
    kinds = torch.stack(rest[4:]).argsort(0)
    amounts = 0.6 * torch.stack(rest[:4]) - 0.3
    moves = amounts.gather(0, kinds).where(kinds != HUE, 0)
    turned = [(kinds[turn] == HUE).nonzero().squeeze(1) for turn in TURNS]
    rows = torch.cat(turned)
    thirds = (3 * amounts[HUE, rows]).round()
    sixths = 6 * amounts[HUE, rows] - 2 * thirds
    step = torch.where(sixths > 0, 1, -1).view(-1, 1, 1) * torch.tensor([0, 1, -1]).view(3, 1)
    channels = (torch.arange(3) - thirds.long().view(-1, 1, 1) + step) % 3

    columns = [torch.tensor(boxes).T, flip < 0.5, gray < 0.1, moves, kinds == CONTRAST, kinds == SATURATION]
    floats = sent(torch.vstack([*(column.float() for column in columns), 0.5 - sixths.abs()]), images.device)
    whole = sent(torch.cat([rows.view(-1, 1), channels.flatten(1)], dim=1), images.device)
    counts = [len(one) for one in turned]
    hues = zip(*(part.split(counts) for part in (whole[:, 0], whole[:, 1:].view(-1, 3, 3), floats[-1])), strict=True)
    moves, from_mean, from_gray = floats[6:18].view(3, 4, -1)
    return Plan(floats[:4].T, floats[4], floats[5], moves, from_mean, from_gray, list(hues))


def each(values: Tensor) -> Tensor:
    """One value for each image, (n) to (n, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def cropped(images: Tensor, boxes: Tensor, flip: Tensor) -> Tensor:
    """Boxes (n, 4) of images at SIZE x SIZE, integers from 0 to 255, mirrored if `flip` (n) is 1."""
    top, left, height, width = boxes.T
    down = filters(top, height, images.shape[1], torch.zeros_like(flip))
    across = filters(left, width, images.shape[2], flip)
    # Rounded to eight bits after each axis, width first, as Pillow and PyTorch do on the CPU.
    narrow = torch.einsum("nhwc,nxw->nhcx", images.float(), across).round_()
    return torch.einsum("nyh,nhcx->ncyx", down, narrow).contiguous().round_()


def filters(start: Tensor, length: Tensor, size: int, flip: Tensor) -> Tensor:
    """Weights (n, SIZE, size) of the pixels of an axis for a resized crop, bilinear with antialiasing."""
    start, length, flip = (values.view(-1, 1, 1) for values in (start, length, flip))
    pixel = torch.arange(size, device=start.device) + 0.5 - start
    share = (torch.arange(SIZE, device=start.device).view(-1, 1) + 0.5) / SIZE
    centre = length * torch.lerp(share.expand(len(start), -1, -1), 1 - share, flip)
    weights = (1 - (pixel - centre).abs() / (length / SIZE).clamp_min(1)).clamp_min_(0)
    weights = weights * ((pixel > 0) & (pixel < length))
    return weights / weights.sum(-1, keepdim=True)


def hue(images: Tensor, rows: Tensor, channels: Tensor, shares: Tensor) -> Tensor:
    """The images of `rows` with their hue turned, as `augment.hue` does it."""
    this, ahead, behind = (images[rows.view(-1, 1), one] for one in channels.unbind(1))
    lowest, highest = this.amin(1, keepdim=True), this.amax(1, keepdim=True)
    moved = (this - ahead).add_(torch.lerp(lowest, highest, 0.5))
    moved.addcmul_((highest - lowest).mul_(each(shares)), (ahead - behind).sign_())
    return torch.clamp(moved, lowest, highest)
