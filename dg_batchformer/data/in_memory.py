"""Benchmarks that need no file: RotatedDigits, of real images, and DomainBed's debugging data, of noise."""

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from dg_batchformer.data.environments import Dataset, Environment, TensorEnvironment, fingerprint
from dg_batchformer.data.folders import Benchmark

SIZE = 16


def load_digits(benchmark: Benchmark) -> Dataset:
    """RotatedDigits: scikit-learn's 1,797 handwritten digits, divided over the environments, which are named by angles.

    Input: float (1, 16, 16) in [0, 1], the 8x8 originals enlarged and rotated counter-clockwise. Label: 0 to 9.
    Environments: image k belongs to environment k modulo their number, as in RotatedMNIST, so that no image is in two.
    Source: the test set of the UCI "Optical Recognition of Handwritten Digits" data, CC BY 4.0.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(digits.target).long()
    angles = [int(name) for name in benchmark.environments]
    environments: list[Environment] = []
    for i, angle in enumerate(angles):
        own = slice(i, None, len(angles))
        large = F.resize(images[own], [SIZE, SIZE], InterpolationMode.BILINEAR, antialias=True)
        rotated = F.rotate(large, angle, InterpolationMode.BILINEAR)
        environments.append(TensorEnvironment(str(angle), rotated, labels[own]))
    # Of the originals and the angles: the last bits of what is interpolated depend on the processor.
    originals = (values.astype("uint8").tobytes() for values in (digits.images, digits.target))
    content = fingerprint([*originals, repr(angles).encode()])
    return Dataset(benchmark.name, environments, (1, SIZE, SIZE), 10, fingerprint=content)


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
