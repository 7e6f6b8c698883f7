"""Transforms against torchvision's on Pillow images, which are DomainBed's."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional as pillow

from dg_batchformer.data import augment

N = 2000


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0)


@pytest.fixture
def picture():
    """A photograph-like gradient of 60 x 90 pixels, with some noise."""
    y, x = np.mgrid[0:60, 0:90]
    noise = np.random.RandomState(0).normal(0, 6, (60, 90, 3))
    pixels = np.stack([2.8 * x, 4 * y, 255 - 2 * x], axis=-1) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def in_bytes(normalised):
    """Values from 0 to 255 of normalised images."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (augment.MEAN, augment.STD))
    return 255 * (normalised * std + mean)


def test_plain_is_domainbeds_evaluation_transform(picture):
    theirs = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )(picture)
    ours = augment.plain(as_tensor(picture))[0]
    assert ours.shape == theirs.shape
    assert (in_bytes(ours) - in_bytes(theirs)).abs().max() <= 1.01  # each rounds once to eight bits


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


def test_crops_of_a_resized_image_are_those_of_the_original(picture):
    """The same draws on an image kept at its size and on one kept as a square see the same part of it."""
    image = as_tensor(picture)
    square = torch.nn.functional.interpolate(image.float(), (240, 240), mode="bilinear").round().byte()
    rows = torch.rand(20, augment.DRAWS).tolist()
    for row in rows:
        own, resized = (augment.augmented(one, [(60, 90)], [row]) for one in (image, square))
        assert (in_bytes(own) - in_bytes(resized)).abs().mean() < 6


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (augment.brightness, lambda image, amount: pillow.adjust_brightness(image, 1 + amount)),
        (augment.contrast, lambda image, amount: pillow.adjust_contrast(image, 1 + amount)),
        (augment.saturation, lambda image, amount: pillow.adjust_saturation(image, 1 + amount)),
        (augment.hue, pillow.adjust_hue),
    ],
)
@pytest.mark.parametrize("amount", [-0.3, -0.1, 0.0, 0.2, 0.3])
def test_each_colour_change_is_torchvisions(picture, ours, theirs, amount):
    changed = 255 * ours(as_tensor(picture)[0].float() / 255, amount)
    difference = (changed - as_tensor(theirs(picture, amount))).abs()
    # Pillow's way to hue and back is through eight bits, where hue has 256 steps.
    assert difference.mean() < (2.5 if ours is augment.hue else 0.6)
    assert difference.max() < (20 if ours is augment.hue else 1.6)


@pytest.mark.parametrize("amount", [-0.3, -0.17, 0.0, 0.08, 0.25, 0.3])
def test_hue_is_turned_as_python_turns_it(amount):
    """Against colorsys: all combinations of eleven values a channel, gray ones and pure ones among them."""
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 11)] * 3)
    expected = []
    for color in grid.double().tolist():
        h, s, v = colorsys.rgb_to_hsv(*color)
        expected.append(colorsys.hsv_to_rgb((h + amount) % 1, s, v))
    turned = augment.hue(grid.T.reshape(3, 11, 121).clone(), amount)
    torch.testing.assert_close(turned.view(3, -1).T, torch.tensor(expected), rtol=0, atol=2e-6)


def test_changes_come_in_the_order_that_is_drawn(picture):
    image = as_tensor(picture)[0].float() / 255
    changes = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    for strengths, order in zip(torch.rand(24, 4).tolist(), torch.rand(24, 4), strict=True):
        expected = image.clone()
        for k in order.argsort().tolist():
            changes[k](expected, 0.6 * strengths[k] - 0.3)
        torch.testing.assert_close(augment.jitter(image.clone(), strengths, order.tolist()), expected)


def test_colours_are_distributed_as_torchvisions(picture):
    jitter = transforms.ColorJitter(0.3, 0.3, 0.3, 0.3)
    image = as_tensor(picture)[0].float() / 255
    rows = torch.rand(500, 8).tolist()
    ours = torch.stack([255 * augment.jitter(image.clone(), row[:4], row[4:]).mean(dim=(1, 2)) for row in rows])
    theirs = torch.stack([as_tensor(jitter(picture)).float().mean(dim=(0, 2, 3)) for _ in range(500)])
    error = torch.hypot(ours.std(0), theirs.std(0)) / math.sqrt(500)
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4 * error).all()
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.2, atol=0)


def draws(flip=0.9, gray=0.9):
    """A crop of everything, no colour change."""
    whole = [1.0, 0.5, 0.0, 0.0] * augment.CROP_TRIES
    return [*whole, flip, gray, 0.5, 0.5, 0.5, 0.5, 0.1, 0.2, 0.3, 0.4]


def test_flip_and_grayscale():
    image = torch.zeros(1, 3, 50, 50, dtype=torch.uint8)
    image[:, 0, :, :25] = 200
    rows = [draws(), draws(flip=0.1), draws(gray=0.05)]
    plain, flipped, gray = in_bytes(augment.augmented(image.repeat(3, 1, 1, 1), [(50, 50)] * 3, rows))
    assert plain.shape == (3, 224, 224)
    assert plain[0, :, :100].mean() > 150 > 20 > plain[0, :, 124:].mean()
    torch.testing.assert_close(flipped, plain.flip(2))
    torch.testing.assert_close(gray[0], gray[1])
    assert not torch.allclose(plain[0], plain[1])
    assert len(draws()) == augment.DRAWS


def test_a_batch_is_augmented_as_its_images_are(picture):
    images = torch.cat([as_tensor(picture), as_tensor(picture).flip(2), as_tensor(picture).flip(3)])
    rows = torch.rand(3, augment.DRAWS).tolist()
    together = augment.augmented(images, [(60, 90)] * 3, rows)
    alone = [augment.augmented(images[i : i + 1], [(60, 90)], [rows[i]]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
