"""The transforms of whole minibatches against those of one image at a time."""

import pytest
import torch
import torch.nn.functional as F

from dg_batchformer.data import augment, resident

N = 12


def pictures(height, width):
    """Uint8 (N, height, width, 3): blurred noise, a gray image among them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(N, 3, height // 8, width // 8, generator=generator)
    images = F.interpolate(coarse, (height, width), mode="bilinear").mul(300).sub(20).clamp(0, 255).byte()
    images[3] = images[3, :1]
    return images.permute(0, 2, 3, 1).contiguous()


def numbers():
    """Draws for N images, every flip and grayscale among them."""
    draws = torch.rand(N, augment.DRAWS, generator=torch.Generator().manual_seed(1))
    flip, gray = 4 * augment.CROP_TRIES, 4 * augment.CROP_TRIES + 1
    draws[:4, flip] = torch.tensor([0.2, 0.8, 0.2, 0.8])
    draws[:4, gray] = torch.tensor([0.05, 0.05, 0.5, 0.5])
    return draws


def assert_close(batched, single):
    """That images differ by a rounding to eight bits here and there, which the colour changes may enlarge."""
    assert batched.shape == single.shape == (N, 3, augment.SIZE, augment.SIZE)
    assert batched.dtype == single.dtype
    assert batched.is_contiguous()
    levels = 255 * (batched.cpu() - single).abs() * torch.tensor(augment.STD).view(3, 1, 1)
    assert levels.mean() < 0.15
    assert (levels > 2).float().mean() < 0.01
    assert levels.max() < 8


def one_by_one(images, originals, draws):
    return augment.augmented(images.permute(0, 3, 1, 2), originals.tolist(), draws.tolist())


@pytest.mark.parametrize(("height", "width"), [(227, 227), (256, 256), (60, 90), (300, 120)])
@pytest.mark.parametrize("original", [None, (480, 640), (90, 500)])
def test_a_minibatch_is_augmented_as_its_images_are(height, width, original):
    images, draws = pictures(height, width), numbers()
    originals = torch.tensor([original or (height, width)] * N)
    batched = resident.augmented_batch(images, originals, draws)
    assert_close(batched, one_by_one(images, originals, draws))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(227, 227), (256, 256), (60, 90), (300, 120)])
def test_a_minibatch_is_resized_as_its_images_are(height, width, interpolation):
    images = pictures(height, width)
    ours = resident.plain_batch(images, interpolation)
    single = augment.plain(images.permute(0, 3, 1, 2), interpolation)
    assert_close(ours, single)
    levels = 255 * (ours - single).abs() * torch.tensor(augment.STD).view(3, 1, 1)
    # PyTorch's CPU kernel has its weights in fixed point.
    assert levels.max() < 2.1


def test_flips_and_grayscale():
    images, draws = pictures(64, 64), numbers()
    originals = torch.tensor([(64, 64)] * N)
    first = resident.augmented_batch(images, originals, draws)
    other = draws.clone()
    other[:, 4 * augment.CROP_TRIES] = 1 - draws[:, 4 * augment.CROP_TRIES]
    mirrored = resident.augmented_batch(images, originals, other)
    assert_close(mirrored.flip(-1).contiguous(), first)
    std, mean = (torch.tensor(values).view(3, 1, 1) for values in (augment.STD, augment.MEAN))
    spread = torch.amax(first * std + mean, 1) - torch.amin(first * std + mean, 1)
    gray = draws[:, 4 * augment.CROP_TRIES + 1] < 0.1
    gray[3] = True  # as the picture is
    assert torch.equal(spread.amax((1, 2)) < 1e-5, gray)


def test_an_image_does_not_depend_on_its_minibatch():
    images, draws = pictures(60, 90), numbers()
    originals = torch.tensor([(60, 90)] * N)
    together = resident.augmented_batch(images, originals, draws)
    alone = [resident.augmented_batch(images[i : i + 1], originals[:1], draws[i : i + 1]) for i in range(N)]
    assert_close(together, torch.cat(alone))


def test_images_stay_as_they_are():
    images = pictures(60, 90)
    before = images.clone()
    resident.augmented_batch(images, torch.tensor([(60, 90)] * N), numbers())
    assert torch.equal(images, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_host_never_waits():
    images, draws = pictures(227, 227), numbers()
    originals = torch.tensor([(480, 640)] * N)
    on_device = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        augmented = resident.augmented_batch(on_device, originals, draws)
        plain = resident.plain_batch(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_close(augmented, one_by_one(images, originals, draws))
    assert_close(plain, augment.plain(images.permute(0, 3, 1, 2)))
