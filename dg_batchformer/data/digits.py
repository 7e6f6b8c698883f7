"""RotatedDigits: a benchmark of real images that needs no download."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from dg_batchformer.data.environments import TensorEnvironment
from dg_batchformer.data.fingerprint import fingerprint

SIZE = 16


def rotated_digits(angles: list[int]) -> list[TensorEnvironment]:
    """scikit-learn's 1,797 handwritten digits, divided over the angles and rotated by them, counter-clockwise.

    Input: float (1, 16, 16) in [0, 1], the 8x8 originals enlarged. Label: 0 to 9. Environments: image k belongs to
    environment k modulo their number, as in RotatedMNIST, so that no image is in two. Source: the test set of the
    UCI "Optical Recognition of Handwritten Digits" data, CC BY 4.0.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(digits.target).long()
    environments = []
    for i, angle in enumerate(angles):
        own = slice(i, None, len(angles))
        environments.append(TensorEnvironment(str(angle), _rotated(images[own], angle), labels[own]))
    return environments


def digits_fingerprint(angles: list[int]) -> str:
    """That of the originals and the angles: the last bits of what is interpolated depend on the processor."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, labels = (values.astype("uint8").tobytes() for values in (digits.images, digits.target))
    return fingerprint([pixels, labels, repr(angles).encode()])


def _rotated(images: Tensor, angle: int) -> Tensor:
    large = F.resize(images, [SIZE, SIZE], InterpolationMode.BILINEAR, antialias=True)
    return F.rotate(large, angle, InterpolationMode.BILINEAR)
