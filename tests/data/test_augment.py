"""Transforms against torchvision's."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from dg_batchformer.data import augment

N = 2000


@pytest.fixture
def picture(tmp_path):
    """A photograph-like gradient of 60 x 90 pixels."""
    y, x = np.mgrid[0:60, 0:90]
    pixels = np.stack([2.8 * x, 4 * y, 255 - 2 * x], axis=-1).clip(0, 255).astype(np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def test_plain_is_domainbeds_evaluation_transform(picture):
    theirs = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    ours = augment.normalise(augment.plain(picture).unsqueeze(0))[0]
    torch.testing.assert_close(ours, theirs(Image.open(picture).convert("RGB")))


@pytest.mark.parametrize(("height", "width"), [(60, 90), (200, 200)])
def test_crops_are_distributed_as_torchvisions(height, width):
    draws = torch.rand(N, 4 * augment.CROP_TRIES).tolist()
    ours = np.array([augment.crop_box(height, width, row) for row in draws], dtype=float)
    image = torch.zeros(3, height, width)
    get = transforms.RandomResizedCrop.get_params
    theirs = np.array([get(image, (0.7, 1.0), (3 / 4, 4 / 3)) for _ in range(N)], dtype=float)
    error = np.hypot(ours.std(0), theirs.std(0)) / math.sqrt(N)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error + 1e-9).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.12)
    top, left, h, w = ours.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()


def test_a_crop_that_never_fits_is_the_largest_central_one():
    no_fit = [0.99, 0.99, 0.5, 0.5] * augment.CROP_TRIES
    assert augment.crop_box(100, 20, no_fit) == ((100 - 27) // 2, 0, 27, 20)


def test_colours_are_distributed_as_torchvisions(picture):
    image = augment.read(picture)
    jitter = transforms.ColorJitter(0.3, 0.3, 0.3, 0.3)

    def moments(images):
        means = np.array([np.asarray(one, dtype=float).mean((0, 1)) for one in images])
        return means.mean(0), means.std(0)

    draws = torch.rand(500, 8).tolist()
    ours = moments([augment.jitter(image, row[:4], row[4:]) for row in draws])
    theirs = moments([jitter(image) for _ in range(500)])
    assert (np.abs(ours[0] - theirs[0]) < 4 * np.hypot(ours[1], theirs[1]) / math.sqrt(500)).all()
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0.2)


def test_jitter_without_strength_changes_nothing_but_rounding(picture):
    image = augment.read(picture)
    same = np.asarray(augment.jitter(image, [0.5] * 4, [0.1, 0.2, 0.3, 0.4]), dtype=int)
    # Pillow's way to hue and back is through eight bits.
    difference = np.abs(same - np.asarray(image, dtype=int))
    assert difference.max() <= 8
    assert difference.mean() < 3


def draws(flip=0.9, gray=0.9):
    """A crop of everything, no colour change."""
    whole = [1.0, 0.5, 0.0, 0.0] * augment.CROP_TRIES
    return [*whole, flip, gray, 0.5, 0.5, 0.5, 0.5, 0.1, 0.2, 0.3, 0.4]


def test_flip_and_grayscale(tmp_path):
    pixels = np.zeros((50, 50, 3), dtype=np.uint8)
    pixels[:, :25, 0] = 200
    Image.fromarray(pixels).save(tmp_path / "red_left.png")
    plain, flipped, gray = (
        augment.augmented(tmp_path / "red_left.png", row).int() for row in (draws(), draws(flip=0.1), draws(gray=0.05))
    )
    assert plain.shape == (3, 224, 224)
    assert plain[0, :, :100].float().mean() > 150 > 20 > plain[0, :, 124:].float().mean()
    assert (flipped - plain.flip(2)).abs().max() <= 2
    assert torch.equal(gray[0], gray[1])
    assert not torch.equal(plain[0], plain[1])
    assert len(draws()) == augment.DRAWS
