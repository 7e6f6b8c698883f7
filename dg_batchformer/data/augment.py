"""DomainBed's image transforms, with every random number drawn beforehand.

Training: a random resized crop (70 to 100 % of the area, aspect 3/4 to 4/3), a flip, colour jitter of 0.3 in
brightness, contrast, saturation and hue in random order, and grayscale in one of ten. Otherwise: a plain resize.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

SIZE = 224
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

CROP_TRIES = 10
DRAWS = 4 * CROP_TRIES + 10
"""Uniform numbers in [0, 1) that one augmented image takes."""


def read(path: Path) -> Image.Image:
    """An image file in RGB."""
    with Image.open(path) as image:
        return image.convert("RGB")


def plain(path: Path) -> Tensor:
    """Image resized to SIZE x SIZE without regard to its aspect; uint8 (3, SIZE, SIZE)."""
    return F.pil_to_tensor(F.resize(read(path), [SIZE, SIZE]))


def augmented(path: Path, draws: Sequence[float]) -> Tensor:
    """Image augmented as `draws`, DRAWS uniform numbers, say; uint8 (3, SIZE, SIZE)."""
    image = read(path)
    top, left, height, width = crop_box(image.height, image.width, draws[: 4 * CROP_TRIES])
    image = F.resized_crop(image, top, left, height, width, [SIZE, SIZE])
    flip, gray, *rest = draws[4 * CROP_TRIES :]
    if flip < 0.5:
        image = F.hflip(image)
    image = jitter(image, rest[:4], rest[4:])
    if gray < 0.1:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    return F.pil_to_tensor(image)


def crop_box(height: int, width: int, draws: Sequence[float]) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop; the largest central one of a fitting aspect if no try fits."""
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


def jitter(image: Image.Image, strengths: Sequence[float], order: Sequence[float]) -> Image.Image:
    """Brightness, contrast, saturation (factors 0.7 to 1.3) and hue (shift -0.3 to 0.3) in the order of `order`."""
    adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for k in sorted(range(4), key=order.__getitem__):
        centred = 0.6 * strengths[k] - 0.3
        image = adjust[k](image, centred if k == 3 else 1 + centred)
    return image


def normalise(images: Tensor) -> Tensor:
    """Float images (n, 3, height, width) of mean 0 and deviation 1 over ImageNet, from uint8 ones."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std
