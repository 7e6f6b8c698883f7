"""DomainBed's image transforms on decoded images, with every random number drawn beforehand.

Training: a random resized crop (70 to 100 % of the area, aspect 3/4 to 4/3), a flip, colour jitter of 0.3 in
brightness, contrast, saturation and hue in random order, and grayscale in one of ten. Otherwise: a plain resize.
Images come as uint8 (n, 3, height, width) and leave as float (n, 3, SIZE, SIZE), normalised over ImageNet. Colours are
computed in floats, where Pillow rounds to eight bits after every step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 224
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)

CROP_TRIES = 10
DRAWS = 4 * CROP_TRIES + 10
"""Uniform numbers in [0, 1) that one augmented image takes: for crop, flip, grayscale, strengths and their order."""

Box = tuple[int, int, int, int]
"""Top, left, height and width of a crop, in pixels."""


def plain(images: Tensor, out: Tensor | None = None) -> Tensor:
    """Images resized to SIZE x SIZE without regard to their aspect, and normalised; into `out` where given."""
    return normalise(resized(images).float().div_(255), out)


def augmented(
    images: Tensor,
    originals: Sequence[tuple[int, int]],
    draws: Sequence[Sequence[float]],
    out: Tensor | None = None,
) -> Tensor:
    """Images augmented as `draws`, DRAWS uniform numbers each, say, and normalised; into `out` where given.

    `originals` are the height and width that each image had on the disk: crops have their geometry.
    """
    height, width = images.shape[-2:]
    cropped = []
    for i, ((h, w), row) in enumerate(zip(originals, draws, strict=True)):
        box = crop_box(h, w, row[: 4 * CROP_TRIES])
        top, left, box_height, box_width = scaled(box, height / h, width / w)
        cropped.append(resized(images[i : i + 1, :, top : top + box_height, left : left + box_width]))
    x = torch.cat(cropped).float().div_(255)
    flip, gray, *rest = zip(*(row[4 * CROP_TRIES :] for row in draws), strict=True)
    x = where(x, [value < 0.5 for value in flip], lambda chosen: chosen.flip(-1))
    x = jitter(x, list(zip(*rest[:4], strict=True)), list(zip(*rest[4:], strict=True)))
    x = where(x, [value < 0.1 for value in gray], lambda chosen: luma(chosen).repeat(1, 3, 1, 1))
    return normalise(x, out)


def resized(images: Tensor) -> Tensor:
    """Images at SIZE x SIZE, bilinear with antialiasing, as Pillow does it."""
    return F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)


def crop_box(height: int, width: int, draws: Sequence[float]) -> Box:
    """A random crop; the largest central one of a fitting aspect if no try fits."""
    ratios = (3 / 4, 4 / 3)
    for i in range(0, len(draws), 4):
        area = height * width * (0.7 + 0.3 * draws[i])
        ratio = math.exp(math.log(ratios[0]) + draws[i + 1] * math.log(ratios[1] / ratios[0]))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(draws[i + 2] * (height - h + 1)), int(draws[i + 3] * (width - w + 1)), h, w
    ratio = min(max(width / height, ratios[0]), ratios[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (height - h) // 2, (width - w) // 2, h, w


def scaled(box: Box, vertical: float, horizontal: float) -> Box:
    """A crop of the original in pixels of the image as it is kept, the edges to the nearest."""
    top, left, height, width = box
    edges = [round(vertical * top), round(horizontal * left)]
    ends = [round(vertical * (top + height)), round(horizontal * (left + width))]
    return edges[0], edges[1], max(1, ends[0] - edges[0]), max(1, ends[1] - edges[1])


def where(images: Tensor, chosen: Sequence[bool], change: Callable[[Tensor], Tensor]) -> Tensor:
    """Images with `change` made to the chosen ones."""
    if all(chosen):
        return change(images)
    if any(chosen):
        indices = torch.tensor(chosen, device=images.device).nonzero().squeeze(1)
        images[indices] = change(images[indices])
    return images


def jitter(images: Tensor, strengths: Sequence[Sequence[float]], order: Sequence[Sequence[float]]) -> Tensor:
    """Brightness, contrast, saturation (factors 0.7 to 1.3) and hue (shift -0.3 to 0.3), of float images in [0, 1].

    `strengths` and `order` have four uniform numbers an image; the changes come by rising `order`.
    """
    turns = [sorted(range(4), key=row.__getitem__) for row in order]
    amounts = 0.6 * torch.tensor(strengths, device=images.device) - 0.3
    for turn in range(4):
        for kind, change in enumerate((brightness, contrast, saturation, hue)):
            own = [one[turn] == kind for one in turns]
            if not any(own):
                continue
            amount = amounts[torch.tensor(own), kind].view(-1, 1, 1, 1)
            images = where(images, own, functools.partial(change, amount=amount))
    return images


def luma(images: Tensor) -> Tensor:
    """Gray values (n, 1, height, width) of colour images (n, 3, height, width)."""
    red, green, blue = images.unbind(-3)
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(-3)


def brightness(images: Tensor, amount: Tensor) -> Tensor:
    return (images * (1 + amount)).clamp_(0, 1)


def contrast(images: Tensor, amount: Tensor) -> Tensor:
    mean = luma(images).mean(dim=(-3, -2, -1), keepdim=True)
    return (images * (1 + amount)).sub_(amount * mean).clamp_(0, 1)


def saturation(images: Tensor, amount: Tensor) -> Tensor:
    return (images * (1 + amount)).sub_(amount * luma(images)).clamp_(0, 1)


def hue(images: Tensor, amount: Tensor) -> Tensor:
    """Hue turned by `amount` of a full circle, at the same saturation and value of HSV."""
    red, green, blue = images.unbind(-3)
    value = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - lowest
    per_chroma = chroma.clamp_min(1e-8).reciprocal_()
    # In sixths of the circle, from red: 0 to 6.
    turn = torch.where(
        value == red,
        (green - blue).mul_(per_chroma),
        torch.where(value == green, (blue - red).mul_(per_chroma).add_(2), (red - green).mul_(per_chroma).add_(4)),
    )
    turn += 6 * amount.squeeze(-3)
    turn -= 6 * (turn / 6).floor_()
    shares = (
        (turn - 3).abs_().sub_(1),
        (turn - 2).abs_().neg_().add_(2),
        (turn - 4).abs_().neg_().add_(2),
    )
    return torch.stack([torch.addcmul(lowest, chroma, share.clamp_(0, 1)) for share in shares], dim=-3)


def normalise(images: Tensor, out: Tensor | None = None) -> Tensor:
    """Float images of mean 0 and deviation 1 over ImageNet, from ones in [0, 1]; into `out` where given."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    return torch.sub(images, mean, out=out).div_(std)
