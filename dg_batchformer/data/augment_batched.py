"""The transforms of `augment` for a whole minibatch that lies on a device, as uint8 (n, height, width, 3).

What depends on the random numbers alone is worked out on the CPU beforehand and sent to the device in two copies, so
that the host never waits for it. The same numbers give the same images as there, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dg_batchformer.data import augment
from dg_batchformer.data.augment import CROP_TRIES, SIZE
from dg_batchformer.data.transfer import sent

TURNS = range(4)
CONTRAST, SATURATION, HUE = 1, 2, 3
"""Columns of the colour changes in the draws, after brightness."""


@dataclass(frozen=True)
class Plan:
    """What is done to n images, on their device.

    In each of the four turns an image moves by one of `amounts` away from black, from its mean gray where `from_mean`
    is one, or from its grays where `from_gray` is one. Then some change their hue: their rows (m), the channels
    (m, 3, 3) that each channel comes from, turns to and turns from, and the share of the chroma (m) that it moves by.
    """

    boxes: Tensor  # (n, 4)
    flip: Tensor  # (n), ones and zeros as in all that follow
    gray: Tensor
    amounts: Tensor  # (4, n)
    from_mean: Tensor
    from_gray: Tensor
    hues: list[tuple[Tensor, Tensor, Tensor]]


def plain_batch(images: Tensor, interpolation: str = "bilinear") -> Tensor:
    """Images resized to SIZE x SIZE without regard to their aspect, and normalised."""
    resized = augment.resized(images.permute(0, 3, 1, 2).float(), interpolation)
    return augment.normalise(resized.round_().clamp_(0, 255).div_(255))


def augmented_batch(images: Tensor, originals: Tensor, draws: Tensor) -> Tensor:
    """Images augmented as `draws` (n, DRAWS) say, and normalised.

    `originals` (n, 2) are the height and width that each image had on the disk; both are on the CPU.
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
    """What `draws` say is done to `images`, sent to their device."""
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
    """One value an image (n) in the shape (n, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def cropped(images: Tensor, boxes: Tensor, flip: Tensor) -> Tensor:
    """Boxes (n, 4) of images at SIZE x SIZE, whole numbers from 0 to 255, mirrored where `flip` (n) is one."""
    top, left, height, width = boxes.T
    down = filters(top, height, images.shape[1], torch.zeros_like(flip))
    across = filters(left, width, images.shape[2], flip)
    # Rounded to eight bits after either axis, and across first, as Pillow and PyTorch do it on the CPU.
    narrow = torch.einsum("nhwc,nxw->nhcx", images.float(), across).round_()
    return torch.einsum("nyh,nhcx->ncyx", down, narrow).contiguous().round_()


def filters(start: Tensor, length: Tensor, size: int, flip: Tensor) -> Tensor:
    """Weights (n, SIZE, size) of the pixels of an axis in the resize of a crop of it, bilinear with antialiasing."""
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
