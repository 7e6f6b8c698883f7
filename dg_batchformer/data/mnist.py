"""RotatedMNIST (Ghifary et al., ICCV 2015) and ColoredMNIST (Arjovsky et al., 2019) as DomainBed makes them.

DomainBed draws their arrangement anew from the seed of each run; here all runs have that of seed 0.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

from dg_batchformer.data.environments import Dataset, Environment, TensorEnvironment, fingerprint
from dg_batchformer.data.folders import Benchmark, Source, data_folder
from dg_batchformer.errors import InputError

FOLDER = "MNIST/raw"
PARTS = ("train", "t10k")
LABEL_NOISE = 0.25
COLOUR_NOISE = (0.1, 0.2, 0.9)
"""The chances that a colour is not that of the label, by environment."""


def load(benchmark: Benchmark, source: Source) -> Dataset:
    """The dataset from MNIST's four files, training and test images together.

    Image k belongs to environment k modulo their number. RotatedMNIST: float (1, 28, 28) in [0, 1], ten classes.
    ColoredMNIST: (2, 28, 28), red and green, two classes.
    """
    images, labels = files_of(benchmark, source)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    images, labels = images[order], labels[order]
    n, is_coloured = len(benchmark.environments), benchmark.name == "ColoredMNIST"
    environments: list[Environment] = []
    for i, name in enumerate(benchmark.environments):
        own = images[i::n], labels[i::n]
        x, y = coloured(*own, COLOUR_NOISE[i], generator) if is_coloured else rotated(*own, int(name))
        environments.append(TensorEnvironment(name, x, y))
    classes = ("0", "1") if is_coloured else tuple(map(str, range(10)))
    content = fingerprint([benchmark.name.encode(), images.numpy().tobytes(), labels.numpy().tobytes()])
    shape = tuple(environments[0].images.shape[1:])
    return Dataset(benchmark.name, environments, shape, classes, fingerprint=content)


def files_of(benchmark: Benchmark, source: Source) -> tuple[Tensor, Tensor]:
    """All images uint8 (n, 28, 28) and labels (n); InputError lists missing files."""
    folder = data_folder(benchmark, source.data_dir, f"that contains {FOLDER}/") / FOLDER
    files = [(folder / f"{part}-images-idx3-ubyte", folder / f"{part}-labels-idx1-ubyte") for part in PARTS]
    missing = [str(file) for pair in files for file in pair if not file.is_file()]
    if missing:
        raise InputError(f"missing files of MNIST: {', '.join(missing)} (unpacked, as torchvision has them)")
    try:
        images = torch.cat([read_image_file(str(file)) for file, _ in files])
        labels = torch.cat([read_label_file(str(file)) for _, file in files])
    except (OSError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        raise InputError(f"{folder} has no valid files of MNIST: {error or type(error).__name__}") from error
    return images, labels.long()


def rotated(images: Tensor, labels: Tensor, angle: int) -> tuple[Tensor, Tensor]:
    """Images turned counter-clockwise by `angle` degrees, as Pillow does it: float (n, 1, 28, 28)."""
    turned = [np.asarray(Image.fromarray(one).rotate(angle, Image.Resampling.BILINEAR)) for one in images.numpy()]
    return torch.from_numpy(np.stack(turned)).float().div_(255).unsqueeze(1), labels


def coloured(images: Tensor, labels: Tensor, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images in one of two channels, float (n, 2, 28, 28), and binary labels, 1 for digits below 5.

    A quarter of the labels is wrong. The colour is that of the label, with the chance `noise` the other one.
    """
    y = flipped((labels < 5).float(), LABEL_NOISE, generator)
    colours = flipped(y, noise, generator)
    x = torch.stack([images, images], dim=1)
    x[torch.arange(len(x)), (1 - colours).long()] = 0
    return x.float().div_(255), y.long()


def flipped(bits: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Bits, 0.0 or 1.0, each flipped with some chance."""
    flips = (torch.rand(len(bits), generator=generator) < chance).float()
    return (bits - flips).abs()
