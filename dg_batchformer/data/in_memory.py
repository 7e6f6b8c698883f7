"""Benchmarks that need no file: RotatedDigits, of real images, and DomainBed's debugging data, of noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from dg_batchformer.data.benchmark import Benchmark
from dg_batchformer.data.environments import Dataset, Environment, TensorEnvironment, fingerprint

SIZE = 16


def load_digits(benchmark: Benchmark) -> Dataset:
    """RotatedDigits, whose environments are named by their angles."""
    angles = [int(angle) for angle in benchmark.environments]
    content = digits_fingerprint(angles)
    return Dataset(benchmark.name, list(rotated_digits(angles)), (1, SIZE, SIZE), 10, fingerprint=content)


def rotated_digits(angles: list[int]) -> list[TensorEnvironment]:
    """scikit-learn's 1,797 handwritten digits, divided over the angles and rotated by them, counter-clockwise.

    Input: float (1, 16, 16) in [0, 1], the 8x8 originals enlarged. Label: 0 to 9. Environments: image k belongs to
    environment k modulo their number, as in RotatedMNIST, so that no image is in two. Source: the test set of the
    UCI "Optical Recognition of Handwritten Digits" data, CC BY 4.0.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(digits.target).long()
    environments = []
    for i, angle in enumerate(angles):
        own = slice(i, None, len(angles))
        environments.append(TensorEnvironment(str(angle), _rotated(images[own], angle), labels[own]))
    return environments


def digits_fingerprint(angles: list[int]) -> str:
    """That of the originals and the angles: the last bits of what is interpolated depend on the processor."""
    from sklearn import datasets

    digits = datasets.load_digits()
    pixels, labels = (values.astype("uint8").tobytes() for values in (digits.images, digits.target))
    return fingerprint([pixels, labels, repr(angles).encode()])


def _rotated(images: Tensor, angle: int) -> Tensor:
    large = F.resize(images, [SIZE, SIZE], InterpolationMode.BILINEAR, antialias=True)
    return F.rotate(large, angle, InterpolationMode.BILINEAR)


def load_noise(benchmark: Benchmark) -> Dataset:
    """DomainBed's debugging data: 16 images of noise an environment, two classes."""
    size = int(benchmark.name.removeprefix("Debug"))
    shape = (3, size, size)
    generator = torch.Generator().manual_seed(0)
    environments: list[Environment] = []
    for name in benchmark.environments:
        images = torch.randn(16, *shape, generator=generator)
        environments.append(TensorEnvironment(name, images, torch.randint(0, 2, (16,), generator=generator)))
    # Labels tell where the generator was; the last bits of what is drawn before them depend on the processor.
    content = fingerprint([repr(shape).encode(), *(one.labels.numpy().tobytes() for one in environments)])
    return Dataset(benchmark.name, environments, shape, 2, fingerprint=content)
