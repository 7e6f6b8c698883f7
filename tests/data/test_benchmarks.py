"""The catalogue, the notes on what was found, and the small datasets."""

import dataclasses
import shutil

import pytest
import torch
from factories import image_tree

from dg_batchformer.data import BENCHMARKS, find_benchmark, load_dataset, path_free


@pytest.mark.parametrize(
    ("name", "environments", "totals"),
    [
        ("PACS", ["A", "C", "P", "S"], [9991]),
        ("VLCS", ["C", "L", "S", "V"], [10729]),
        ("OfficeHome", ["A", "C", "P", "R"], [15588]),
        ("TerraIncognita", ["L100", "L38", "L43", "L46"], [24330, 24788]),
    ],
)
def test_catalogue(name, environments, totals):
    benchmark = BENCHMARKS[name]
    assert list(benchmark.environments) == environments
    assert [sum(version) for version in benchmark.published] == totals
    assert (benchmark.steps, benchmark.checkpoint_freq) == (5001, 300)
    # DomainBed takes the folders by name.
    assert list(benchmark.folders) == sorted(benchmark.folders)


def test_loads_domainbeds_folder_or_the_folder_itself(tmp_path):
    root = image_tree(tmp_path / "PACS", environments=("art_painting", "cartoon", "photo", "sketch", ".cache"))
    for data_dir in (tmp_path, root):
        dataset = load_dataset("PACS", str(data_dir))
        assert [environment.name for environment in dataset.environments] == ["A", "C", "P", "S"]
        assert dataset.sizes == [8, 8, 8, 8]
        assert (dataset.input_shape, dataset.num_classes) == ((3, 224, 224), 2)
        ignored, counted = dataset.notes
        assert ignored == "ignored folders: .cache"
        assert counted.startswith("WARNING: 32 images (A 8, C 8, P 8, S 8): not the published PACS of 9,991")


def test_the_published_count_is_no_warning(tmp_path, monkeypatch):
    from dg_batchformer import data

    names = BENCHMARKS["TerraIncognita"].folders
    image_tree(tmp_path / "terra_incognita", environments=names)
    versions = ((8, 8, 8, 8), (9, 9, 9, 9))
    small = dataclasses.replace(
        BENCHMARKS["TerraIncognita"], name="T", environments=("a", "b", "c", "d"), published=versions
    )
    monkeypatch.setitem(data.BENCHMARKS, "T", small)
    (note,) = load_dataset("T", str(tmp_path)).notes
    assert note == "32 images (a 8, b 8, c 8, d 8): a published version of T (of 32 or 36)"


def test_any_folder_is_a_dataset(tmp_path):
    root = image_tree(tmp_path / "mine", environments=("north", "south"))
    name = f"folder:{root}"
    dataset = load_dataset(name)
    assert [environment.name for environment in dataset.environments] == ["north", "south"]
    assert dataset.notes == ["16 images (north 8, south 8)"]
    assert find_benchmark(name).environments == ("north", "south")
    assert path_free(name) == "folder:mine"
    assert path_free("PACS") == "PACS"


@pytest.mark.parametrize(
    ("name", "data_dir", "message"),
    [
        ("PACS", None, "needs --data_dir"),
        ("PACS", "/nowhere", "/nowhere/PACS is not a folder: expected the environments art_painting, cartoon"),
        ("OficeHome", None, "did you mean OfficeHome"),
        ("folder:/nowhere", None, "'folder:/nowhere' is not a folder: expected folder:PATH"),
        ("folder:", None, "'folder:' is not a folder: expected folder:PATH"),
    ],
)
def test_missing_data_is_said(name, data_dir, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(name, data_dir)


def test_a_corrupt_image_stops_the_loading_unless_it_is_to_be_skipped(tmp_path):
    root = image_tree(tmp_path / "mine")
    (root / "b" / "cat" / "0.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"1 corrupt image\(s\) in .*--skip_corrupt\nb/cat/0\.jpg: cannot identify"):
        load_dataset(f"folder:{root}")
    dataset = load_dataset(f"folder:{root}", skip_corrupt=True)
    assert dataset.sizes == [8, 7, 8]
    assert dataset.environments[1].labels.tolist() == [0] * 3 + [1] * 4
    assert [line.partition(":")[0] for line in dataset.skipped] == ["b/cat/0.jpg"]
    assert "WARNING: skipped 1 corrupt image(s): b/cat/0.jpg: cannot identify" in dataset.notes[-1]
    assert all(x.abs().max() > 0.1 for x in dataset.environments[1].inputs(torch.arange(7)))


@pytest.mark.parametrize(("name", "size"), [("Debug28", 28), ("Debug224", 224)])
def test_debugging_data(name, size):
    dataset = load_dataset(name)
    assert dataset.sizes == [16, 16, 16]
    assert dataset.environments[0].inputs(torch.arange(2)).shape == (2, 3, size, size)
    assert dataset.num_classes == 2


def test_classes_may_differ_if_that_is_allowed(tmp_path):
    root = image_tree(tmp_path / "mine", ("north", "south"))
    shutil.rmtree(root / "south" / "cat")
    image_tree(root, ("south",), ("elk",))
    with pytest.raises(
        ValueError, match=r"different classes than the other environments: .*--partial_classes allows it"
    ):
        load_dataset(f"folder:{root}")
    dataset = load_dataset(f"folder:{root}", partial_classes=True)
    assert dataset.classes == ("cat", "dog", "elk")
    north, south = (sorted(set(environment.labels.tolist())) for environment in dataset.environments)
    assert (north, south) == ([0, 1], [1, 2])
    assert "classes without images: north elk; south cat" in dataset.notes
