"""DomainBed's image transforms on decoded images; all random numbers are drawn beforehand.

Training: a random resized crop (70 to 100 % of the area, aspect 3/4 to 4/3), a flip, colour jitter of 0.3 in
brightness, contrast, saturation and hue in random order, and grayscale in one of ten. Otherwise: a plain resize.
Inputs are uint8 (n, 3, height, width), outputs float (n, 3, SIZE, SIZE), normalised with ImageNet's statistics. Colours
are computed in floats, whereas Pillow rounds to eight bits after every step. Images are processed one at a time and in
place, so that they stay in the cache of a core.
"""

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)

CROP_TRIES = 10
DRAWS = 4 * CROP_TRIES + 10
"""The uniform numbers in [0, 1) for one augmented image: crop, flip, grayscale, strengths and their order."""


def plain(images: Tensor, interpolation: str = "bilinear", out: Tensor | None = None) -> Tensor:
    """Images resized to SIZE x SIZE, ignoring their aspect, and normalised; written to `out` if given."""
    out = torch.empty(len(images), 3, SIZE, SIZE) if out is None else out
    return normalise(out.copy_(resized(images, interpolation)).div_(255))


def augmented(
    images: Tensor, originals: Sequence[Sequence[int]], draws: Sequence[Sequence[float]], out: Tensor | None = None
) -> Tensor:
    """Images augmented by `draws` (DRAWS uniform numbers for each) and normalised; written to `out` if given.

    `originals` are the height and width of each image on the disk, on which crops are defined.
    """
    out = torch.empty(len(images), 3, SIZE, SIZE) if out is None else out
    for image, original, row, place in zip(images.split(1), originals, draws, out, strict=True):
        flip, gray, *rest = row[4 * CROP_TRIES :]
        top, left, height, width = crop(original, images.shape[-2:], row)
        (pixels,) = resized(image[..., top : top + height, left : left + width])
        place.copy_(pixels.flip(-1) if flip < 0.5 else pixels).div_(255)
        jitter(place, rest[:4], rest[4:])
        if gray < 0.1:
            place.copy_(luma(place))
        normalise(place)
    return out


def resized(images: Tensor, interpolation: str = "bilinear") -> Tensor:
    """Images at SIZE x SIZE, bilinear or bicubic with antialiasing, as Pillow does it."""
    return F.interpolate(images, (SIZE, SIZE), mode=interpolation, antialias=True).contiguous()


def crop(original: Sequence[int], kept: Sequence[int], draws: Sequence[float]) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop, in pixels of the cached image; no crop if the original is 0 x 0."""
    if not original[0]:
        return 0, 0, kept[0], kept[1]
    top, left, height, width = crop_box(original[0], original[1], draws[: 4 * CROP_TRIES])
    vertical, horizontal = kept[0] / original[0], kept[1] / original[1]
    y, x = round(vertical * top), round(horizontal * left)
    end_y, end_x = round(vertical * (top + height)), round(horizontal * (left + width))
    return y, x, max(1, end_y - y), max(1, end_x - x)


def crop_box(height: int, width: int, draws: Sequence[float]) -> tuple[int, int, int, int]:
    """The same in pixels of the image on the disk; if no attempt fits, the largest central crop."""
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


def jitter(image: Tensor, strengths: Sequence[float], order: Sequence[float]) -> Tensor:
    """Brightness, contrast, saturation (factors 0.7 to 1.3) and hue (shift -0.3 to 0.3), of an image in [0, 1].

    `strengths` and `order` are four uniform numbers each; the changes are applied by rising `order`, in place.
    """
    changes = (brightness, contrast, saturation, hue)
    for kind in sorted(range(4), key=order.__getitem__):
        changes[kind](image, 0.6 * strengths[kind] - 0.3)
    return image


def luma(images: Tensor) -> Tensor:
    """Gray values (..., 1, height, width) of colour images (..., 3, height, width)."""
    red, green, blue = images.unbind(-3)
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(-3)


def brightness(image: Tensor, amount: float) -> Tensor:
    """Moves the image away from black by `amount`, in place."""
    return image.mul_(1 + amount).clamp_(0, 1)


def contrast(image: Tensor, amount: float) -> Tensor:
    """Moves the image away from its mean gray by `amount`, in place."""
    mean = sum(share * value for share, value in zip(LUMA, image.mean(dim=(-2, -1)).tolist(), strict=True))
    return image.mul_(1 + amount).sub_(amount * mean).clamp_(0, 1)


def saturation(image: Tensor, amount: float) -> Tensor:
    """Moves each pixel away from its gray by `amount`, in place."""
    return image.lerp_(luma(image), -amount).clamp_(0, 1)


def hue(image: Tensor, amount: float) -> Tensor:
    """Hue turned by `amount` of a full circle, at the same saturation and value of HSV; in place.

    A turn by a third of the circle permutes the channels. The rest, at most a sixth in either direction, moves a
    channel by its difference from the channel that it turns to and by a part of the chroma, limited to the pixel's
    lowest and highest channel. This is the trapezoid of a channel over hue, without an angle, a division or a sector.
    """
    thirds = round(3 * amount)
    sixth = 6 * amount - 2 * thirds
    ahead = -1 if sixth > 0 else 1
    lowest, highest = image.amin(0), image.amax(0)
    this = image.roll(thirds, 0) if thirds else image
    moved = this - this.roll(ahead, 0)
    side = moved.roll(ahead, 0).sign_()
    moved += torch.lerp(lowest, highest, 0.5)
    moved.addcmul_(highest - lowest, side, value=0.5 - abs(sixth))
    return torch.clamp(moved, lowest, highest, out=image)


def normalise(images: Tensor) -> Tensor:
    """Normalises images in [0, 1] with ImageNet's mean and standard deviation, in place."""
    scale, shift = imagenet(images.device)
    return images.mul_(scale).add_(shift)


@functools.cache
def imagenet(device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and offset (3, 1, 1) that normalise images on a device."""
    # The first call may come from an evaluation; tensors made in inference mode cannot be used in training.
    with torch.inference_mode(False):
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return (1 / std).to(device, non_blocking=True), (-mean / std).to(device, non_blocking=True)
