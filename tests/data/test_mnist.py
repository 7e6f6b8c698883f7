"""RotatedMNIST and ColoredMNIST from generated files; tests/fidelity compares with DomainBed's classes."""

import pytest
import torch
from factories import mnist_files

from dg_batchformer.data import load_dataset
from dg_batchformer.errors import InputError


@pytest.fixture
def folder(tmp_path):
    return mnist_files(tmp_path, train=90, test=30)


def test_rotated(folder):
    dataset = load_dataset("RotatedMNIST", str(folder))
    assert [environment.name for environment in dataset.environments] == ["0", "15", "30", "45", "60", "75"]
    assert (dataset.input_shape, dataset.num_classes, dataset.sizes) == ((1, 28, 28), 10, [20] * 6)
    upright = dataset.environments[0].images
    assert 0 <= upright.min() < upright.max() <= 1
    assert dataset.fingerprint == load_dataset("RotatedMNIST", str(folder)).fingerprint


def test_coloured(tmp_path):
    """A quarter of the labels is wrong; the colour is the label's in 90, 80 and 10 percent."""
    dataset = load_dataset("ColoredMNIST", str(mnist_files(tmp_path, train=9000, test=3000)))
    assert (dataset.input_shape, dataset.num_classes, dataset.sizes) == ((2, 28, 28), 2, [4000] * 3)
    for environment, share in zip(dataset.environments, (0.9, 0.8, 0.1), strict=True):
        is_green = environment.images[:, 0].flatten(1).sum(1) == 0
        assert torch.all((environment.images.flatten(2).sum(2) == 0).sum(1) >= 1)
        assert float((is_green == (environment.labels == 1)).float().mean()) == pytest.approx(share, abs=0.03)


def test_bad_input(tmp_path, folder):
    for name in ("RotatedMNIST", "ColoredMNIST"):
        with pytest.raises(InputError, match=f"dataset {name} needs --data_dir, the folder that contains MNIST/raw/"):
            load_dataset(name)
    (folder / "MNIST/raw/t10k-images-idx3-ubyte").unlink()
    with pytest.raises(InputError, match=r"missing files of MNIST: .*t10k-images-idx3-ubyte \(unpacked"):
        load_dataset("RotatedMNIST", str(folder))
    (folder / "MNIST/raw/t10k-images-idx3-ubyte").write_bytes(b"nothing")
    with pytest.raises(InputError, match="has no valid files of MNIST"):
        load_dataset("RotatedMNIST", str(folder))
