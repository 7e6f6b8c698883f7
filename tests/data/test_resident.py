"""Images on a device, decoded or encoded, give what the CPU's path gives."""

import dataclasses

import pytest
import torch
from factories import image_tree

from dg_batchformer.data import load_dataset, resident
from dg_batchformer.data.encoded import EncodedImages
from dg_batchformer.data.environments import Samples, augmentation


@pytest.fixture(params=["decoded", "encoded"])
def dataset(tmp_path, request):
    return load_dataset(f"folder:{image_tree(tmp_path / 'mine', n=5)}", image_cache=request.param)


def samples(dataset, *, augmented):
    generator = torch.Generator().manual_seed(0)
    chosen = {0: [3, 9, 3], 2: [0, 7]}
    return [
        Samples(i, torch.tensor(own), augmentation(dataset.environments[i], len(own), generator) if augmented else None)
        for i, own in chosen.items()
    ]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_inputs_are_the_same(dataset, device, augmented, interpolation):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    wanted = samples(dataset, augmented=augmented)
    dataset = dataclasses.replace(dataset, interpolation=interpolation)
    stores = [resident.resident_images(dataset, device), resident.streamed_images(dataset, device)]
    is_encoded = isinstance(dataset.environments[0].images, EncodedImages)
    assert [store is not None for store in stores] == [True, is_encoded]
    for store in filter(None, stores):
        compare(dataset, dataclasses.replace(dataset, resident=store), wanted, device)


def compare(dataset, there, wanted, device):
    expected, ours = dataset.inputs(wanted, "cpu"), there.inputs(wanted, device)
    assert [len(one) for one in ours] == [3, 2]
    for a, b in zip(expected, ours, strict=True):
        levels = 255 * 0.224 * (a - b.cpu()).abs()
        assert levels.mean() < 0.4
        assert (levels > 2.1).float().mean() < 0.01


def test_images_are_not_in_bfloat16_where_networks_are(dataset):
    wanted = samples(dataset, augmented=True)
    there = resident.resident_images(dataset, "cpu")
    expected = there.inputs(wanted, "bilinear")
    with torch.autocast("cpu", torch.bfloat16):
        ours = there.inputs(wanted, "bilinear")
    assert all(torch.equal(a, b) for a, b in zip(expected, ours, strict=True))


def test_what_does_not_fit_stays(dataset, monkeypatch):
    monkeypatch.setattr(resident, "fits", lambda n_bytes, device: False)
    assert resident.resident_images(dataset, "cpu") is None
    assert resident.resident_images(load_dataset("RotatedDigits"), "cpu") is None


def test_half_of_the_free_memory_is_left(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (1000, 4000))
    assert resident.fits(500, "cuda")
    assert not resident.fits(501, "cuda")
