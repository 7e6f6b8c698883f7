"""Datasets against DomainBed's own classes, on small generated files: names, classes, images and their order."""

import importlib
import sys
import types

import numpy as np
import pytest
import torch
from factories import image_tree, mnist_files, spawrious_files
from PIL import Image

from dg_batchformer.data import BENCHMARKS, load_dataset, spawrious
from dg_batchformer.data.environments import Samples

from .peers import checkout

pytestmark = pytest.mark.domainbed

HPARAMS = {"data_augmentation": False}
FOLDERS = ("VLCS", "PACS", "OfficeHome", "TerraIncognita", "DomainNet", "SVIRO")
SPAWRIOUS = [f"Spawrious{name}" for name in spawrious.PLACES]


@pytest.fixture(scope="module")
def theirs():
    """DomainBed's module of datasets, with `wilds` if it is installed, else with a stand-in."""
    sys.path.insert(0, str(checkout("DomainBed")))
    names = {"camelyon17_dataset": "Camelyon17Dataset", "fmow_dataset": "FMoWDataset"}
    try:
        for name in names:
            importlib.import_module(f"wilds.datasets.{name}")
        return importlib.import_module("domainbed.datasets")
    except ImportError:
        stand_ins = {f"wilds.datasets.{name}": types.SimpleNamespace(**{cls: object}) for name, cls in names.items()}
        stand_ins |= {name: types.ModuleType(name) for name in ("wilds", "wilds.datasets")}
        sys.modules.update(stand_ins)
        try:
            return importlib.import_module("domainbed.datasets")
        finally:
            for name in stand_ins:
                del sys.modules[name]


def test_every_dataset_is_known(theirs):
    assert set(theirs.DATASETS) <= set(BENCHMARKS)
    for name in theirs.DATASETS:
        cls, ours = theirs.get_dataset_class(name), BENCHMARKS[name]
        assert ours.environments == tuple(cls.ENVIRONMENTS)
        assert (ours.steps, ours.checkpoint_freq) == (cls.N_STEPS, cls.CHECKPOINT_FREQ)


@pytest.mark.parametrize("name", ["RotatedMNIST", "ColoredMNIST"])
def test_mnist(theirs, tmp_path, name):
    """To the bit, for the seed 0 of a run."""
    folder = mnist_files(tmp_path, train=200, test=40)
    torch.manual_seed(0)
    expected = theirs.get_dataset_class(name)(str(folder), [0], HPARAMS)
    dataset = load_dataset(name, str(folder))
    assert (dataset.input_shape, dataset.num_classes) == (tuple(expected.input_shape), expected.num_classes)
    for own, other in zip(dataset.environments, expected, strict=True):
        assert own.images.equal(other.tensors[0])
        assert own.labels.equal(other.tensors[1])


def assert_equal(dataset, expected):
    """The same classes, labels and images in the same order; images up to the rounding of a resize."""
    assert dataset.num_classes == expected.num_classes
    assert dataset.input_shape == tuple(expected.input_shape)
    for i, (own, other) in enumerate(zip(dataset.environments, expected.datasets, strict=True)):
        images, labels = zip(*(other[k] for k in range(len(other))), strict=True)
        assert own.labels.tolist() == list(map(int, labels))
        (inputs,) = dataset.inputs([Samples(i, torch.arange(len(other)))], "cpu")
        assert (inputs - torch.stack(images)).abs().max() <= 1.01 / 255 / 0.224


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(theirs, tmp_path, name):
    ours = BENCHMARKS[name]
    # All of one size: images of several are stored at 256 x 256.
    image_tree(tmp_path / ours.root, ours.folders, n=2)
    assert_equal(load_dataset(name, str(tmp_path)), theirs.get_dataset_class(name)(str(tmp_path), [0], HPARAMS))


@pytest.mark.parametrize("name", SPAWRIOUS)
def test_spawrious(theirs, tmp_path, monkeypatch, name):
    """With sorted folders, since DomainBed takes the images of a limited part in the order of the file system."""
    folder, listdir = spawrious_files(tmp_path, n=2), theirs.os.listdir
    monkeypatch.setattr(theirs.os, "listdir", lambda path: sorted(listdir(path)))
    assert_equal(load_dataset(name, str(folder)), theirs.get_dataset_class(name)(str(folder), [0], HPARAMS))


@pytest.mark.filterwarnings("ignore::UserWarning:wilds")
@pytest.mark.parametrize("name", ["WILDSCamelyon", "WILDSFMoW"])
def test_wilds(theirs, tmp_path, name):
    pytest.importorskip("wilds", reason="needs the extra `wilds`")
    {"WILDSCamelyon": camelyon, "WILDSFMoW": fmow}[name](tmp_path)
    assert_equal(load_dataset(name, str(tmp_path)), theirs.get_dataset_class(name)(str(tmp_path), [0], HPARAMS))


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(number).randint(0, 255, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def camelyon(folder):
    """Two patches of each of five hospitals, in wilds' layout."""
    root = folder / "camelyon17_v1.0"
    lines = [",patient,node,x_coord,y_coord,tumor,slide,center,split"]
    for i in range(10):
        patient, node = f"{i:03d}", i % 3
        name = f"patch_patient_{patient}_node_{node}_x_{i}_y_{2 * i}.png"
        picture(root / "patches" / f"patient_{patient}_node_{node}" / name, i)
        lines.append(f"{i},{patient},{node},{i},{2 * i},{i % 2},{i},{i % 5},0")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    (root / "RELEASE_v1.0.txt").touch()


def fmow(folder):
    """Two images of each of six regions, in wilds' layout; images of split seq are not part of it."""
    from wilds.datasets.fmow_dataset import categories

    root = folder / "fmow_v1.1"
    countries = {"DEU": "Europe", "CHN": "Asia", "KEN": "Africa", "USA": "Americas", "AUS": "Oceania", "XXX": "Other"}
    lines = ["split,category,country_code,timestamp"]
    for i, code in enumerate([*countries, *reversed(countries), "DEU"]):
        picture(root / "images" / f"rgb_img_{i}.png", i)
        split = "seq" if i == 3 else "train"
        lines.append(f"{split},{categories[i % 7]},{code},2015-0{1 + i % 9}-01T00:00:00Z")
    (root / "rgb_metadata.csv").write_text("\n".join(lines) + "\n")
    codes = [f"{code},{region}" for code, region in countries.items() if region != "Other"]
    (root / "country_code_mapping.csv").write_text("\n".join(["alpha-3,region", *codes]) + "\n")
    (root / "RELEASE_v1.1.txt").touch()
