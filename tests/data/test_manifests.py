"""Datasets of images that a CSV file lists."""

import csv
import json
import shutil

import pytest
import torch
from factories import image_tree, manifest

from dg_batchformer.data import find_benchmark, load_dataset, loaders
from dg_batchformer.data.folders import Source
from dg_batchformer.data.lists import Row, read
from dg_batchformer.data.manifests import class_names
from dg_batchformer.errors import InputError


def rewritten(file, change):
    """The manifest with changed lines."""
    lines = file.read_text().splitlines()
    file.write_text("\n".join(change(lines)) + "\n")
    return file


def load(file, **given):
    return load_dataset(f"manifest:{file}", **given)


def test_images_and_labels_are_those_of_the_folders(tmp_path):
    """In the order of the file, with labels that are the names of the classes or numbers."""
    file = manifest(tmp_path / "listed", splits=False)
    folders = load_dataset(f"folder:{file.parent}")
    for number in (False, True):
        rewritten(file, lambda lines: [lines[0], *reversed(lines[1:])])
        if number:
            file.write_text(file.read_text().replace(",cat,", ",0,").replace(",dog,", ",1,"))
        dataset = load(file)
        assert dataset.classes == ("cat", "dog")
        assert dataset.splits is None
        assert [one.name for one in dataset.environments] == ["a", "b", "c"]
        for own, other in zip(dataset.environments, folders.environments, strict=True):
            order = range(7, -1, -1) if not number else range(8)
            assert own.labels.tolist() == other.labels[list(order)].tolist()
            assert torch.equal(own.images, other.images[list(order)])


@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("kind", ["json", "lists"])
def test_other_formats_give_the_same_dataset(tmp_path, kind, splits):
    file = manifest(tmp_path / "listed", splits=splits)
    expected = load(file)
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    if kind == "json":
        other = file.with_name("listed.json")
        other.write_text(json.dumps([{**row, "label": int(row["label"] == "dog")} for row in rows]))
    else:
        other = tmp_path / "lists"
        other.mkdir()
        for row in rows:
            name = row["env"] + (f"_{row['split']}" if splits else "")
            with (other / f"{name}.txt").open("a") as opened:
                opened.write(f"{row['path']} {int(row['label'] == 'dog') + 1}\n")
    dataset = load(other, data_dir=str(file.parent))
    assert dataset.classes == expected.classes
    for i, (own, theirs) in enumerate(zip(dataset.environments, expected.environments, strict=True)):
        assert own.name == theirs.name
        order = [expected.files[i].index(path) for path in dataset.files[i]]
        assert own.labels.equal(theirs.labels[order])
        if splits:
            for mine, given in zip(dataset.splits[i], expected.splits[i], strict=True):
                assert {dataset.files[i][k] for k in mine} == {expected.files[i][k] for k in given}


def test_a_text_list_may_have_spaces_in_its_paths(tmp_path):
    folder = tmp_path / "lists"
    for name in ("north", "south"):
        image_tree(folder, (f"{name} side",), n=1)
        lines = [f"{name} side/{label}/0.jpg {label}" for label in ("cat", "dog")]
        (folder / f"{name}.txt").write_text("\n".join([*lines, "", ""]))
    dataset = load(folder)
    assert [environment.name for environment in dataset.environments] == ["north", "south"]
    assert dataset.files[1] == ["south side/cat/0.jpg", "south side/dog/0.jpg"]


def test_an_invalid_json_file_or_folder_is_named(tmp_path):
    file = tmp_path / "listed.json"
    for text, message in (
        ("{", "cannot be read as a JSON file"),
        ('{"env": "a"}', "is not a JSON list of objects: expected objects with env, label, path"),
        ('[{"env": "a", "path": "a/1.jpg"}]', "1 incomplete rows (expected env, label and path): entry 1"),
        (
            '[{"env": "a", "label": 0, "path": "../1.jpg"}]',
            "1 invalid paths (expected relative paths of images): entry",
        ),
    ):
        file.write_text(text)
        with pytest.raises(InputError) as error:
            load(file)
        assert message in str(error.value)
    with pytest.raises(InputError, match=r"has 0 environment\(s\)"):
        load(tmp_path)


def test_given_splits_are_the_splits(tmp_path):
    file = manifest(tmp_path / "listed")
    benchmark = find_benchmark(f"manifest:{file}")
    assert (benchmark.environments, benchmark.tests) == (("a", "b", "c"), True)
    with file.open() as opened:
        rows = [row for row in csv.DictReader(opened) if row["env"] == "b"]
    dataset = load(file)
    for name, indices in zip(("train", "val", "test"), dataset.splits[1], strict=True):
        assert [rows[i]["split"] for i in indices] == [name] * len(indices)
    assert sum(map(len, dataset.splits[1])) == len(rows)


def test_the_fingerprint_is_of_images_labels_and_splits_not_of_the_place(tmp_path):
    file = manifest(tmp_path / "listed")
    first = load(file).fingerprint
    shutil.copytree(file.parent, tmp_path / "moved" / "elsewhere")
    shutil.move(tmp_path / "moved" / "elsewhere" / file.name, tmp_path / "renamed.csv")
    moved = load(tmp_path / "renamed.csv", data_dir=str(tmp_path / "moved" / "elsewhere"))
    assert moved.fingerprint == first
    changed = {first}
    for old, new in ((",train", ",val"), (",cat,", ",dog,")):
        rewritten(file, lambda lines, old=old, new=new: [lines[0], lines[1].replace(old, new), *lines[2:]])
        changed.add(load(file).fingerprint)
    assert len(changed) == 3


def test_a_corrupt_image_leaves_its_split(tmp_path):
    file = manifest(tmp_path / "listed")
    before = load(file).splits[0]
    (file.parent / "a" / "cat" / "0.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 corrupt image\(s\)"):
        load(file)
    dataset = load(file, skip_corrupt=True)
    assert sum(map(len, dataset.splits[0])) == sum(map(len, before)) - 1 == len(dataset.environments[0].labels)


def test_another_extension_on_the_disk_is_used_and_named(tmp_path):
    file = manifest(tmp_path / "listed")
    file.write_text(file.read_text().replace("c/dog/1.jpg", "c/dog/1.png"))
    dataset = load(file)
    assert f"1 files have another extension than in {file}: c/dog/1.png is 1.jpg" in dataset.notes
    assert "c/dog/1.png is 1.jpg" in loaders.info(find_benchmark(f"manifest:{file}"), Source())[-2]


def replaced(old, new, n=1):
    return lambda lines: [line if i != n else line.replace(old, new) for i, line in enumerate(lines)]


INVALID = {
    "missing": (replaced("0.jpg", "17.jpg"), "1 of the 24 images in {file} are missing in {root}: a/cat/17.jpg"),
    "duplicate": (replaced("1.jpg", "0.jpg", 2), "{file}: 1 duplicate paths: a/cat/0.jpg in line 2 and line 3"),
    "split": (replaced("train", "training"), "1 invalid splits (expected train, val, test): line 2 has 'training'"),
    "no split": (replaced("train", ""), "1 invalid splits (expected train, val, test): line 2 has ''"),
    "empty": (replaced("a,cat", ",cat"), "1 incomplete rows (expected env, label and path): line 2"),
    "absolute": (replaced("a/cat", "/a/cat"), "1 invalid paths (expected relative paths of images): line 2 has '/a/"),
    "no image": (replaced("0.jpg", "0.txt"), "1 invalid paths (expected relative paths of images): line 2 has 'a/"),
    "columns": (replaced("label", "class", 0), "{file} has no column label: expected env,label,path and optionally"),
    "one environment": (lambda lines: lines[:9], "{file} has 1 environment(s): expected at least 2"),
    "nothing": (lambda lines: lines[:1], "{file} has 0 environment(s): expected at least 2"),
    "untested": (
        lambda lines: [line.replace("test", "val") if line.startswith("b") else line for line in lines],
        "{file} has no test image of environment b: expected images of every split, or no column split",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_file_is_named(tmp_path, name):
    change, message = INVALID[name]
    file = rewritten(manifest(tmp_path / "listed"), change)
    with pytest.raises(InputError) as error:
        load(file)
    assert message.format(file=file, root=file.parent) in str(error.value)


def test_all_errors_are_listed_at_once(tmp_path):
    def change(lines):
        return replaced("train", "x")(replaced("1.jpg", "0.jpg", 2)(lines))

    with pytest.raises(InputError) as error:
        load(rewritten(manifest(tmp_path / "listed"), change))
    assert len(str(error.value).splitlines()) == 2


def test_a_file_that_is_missing_or_no_table(tmp_path):
    with pytest.raises(InputError, match="cannot be read as a CSV file"):
        load(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"--data_dir .* is not a folder"):
        load(manifest(tmp_path / "listed"), data_dir=str(tmp_path / "none"))


def test_names_of_classes():
    def names(*rows):
        return class_names([Row("a", *row) for row in rows])

    assert names(("10", "a/ten/1.jpg"), ("9", "b/nine/1.jpg")) == {"9": "nine", "10": "ten"}
    assert names(("1", "a/x/1.jpg"), ("0", "b/x/2.jpg")) == {"0": "0", "1": "1"}
    assert names(("1", "a/x/1.jpg"), ("1", "b/y/2.jpg")) == {"1": "1"}
    assert names(("b", "a/x/1.jpg"), ("a", "a/y/1.jpg")) == {"a": "a", "b": "b"}


def test_the_published_long_tails_need_their_file(tmp_path):
    """It may lie beside the environments or in the data folder."""
    names = ("art_painting", "cartoon", "photo", "sketch")
    file = manifest(tmp_path / "PACS", environments=names, name="PACS.csv")
    for move in (False, True):
        if move:
            shutil.move(file, tmp_path / "PACS.csv")
        dataset = load_dataset("mdlt:PACS", str(tmp_path))
        assert [one.name for one in dataset.environments] == ["A", "C", "P", "S"]
        assert dataset.splits is not None
    (tmp_path / "PACS.csv").unlink()
    with pytest.raises(InputError, match=r"mdlt:PACS needs .*/PACS/PACS.csv, the published split"):
        load_dataset("mdlt:PACS", str(tmp_path))


def test_environments_of_a_published_long_tail(tmp_path):
    manifest(tmp_path / "PACS", environments=("art_painting", "cartoon", "photo", "sketches"), name="PACS.csv")
    with pytest.raises(InputError, match="has the environments art_painting, cartoon, photo, sketches: expected art"):
        load_dataset("mdlt:PACS", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "shots"),
    [("PACS", (100, 20)), ("VLCS", (100, 20)), ("OfficeHome", (60, 20)), ("TerraIncognita", (100, 25))],
)
def test_published_long_tails_in_the_catalogue(name, shots):
    from dg_batchformer import default_hparams, random_hparams

    benchmark = find_benchmark(f"mdlt:{name}")
    assert (benchmark.steps, benchmark.checkpoint_freq, benchmark.shots) == (5001, 100, shots)
    assert default_hparams("ERM", f"mdlt:{name}")["batch_size"] == 24
    assert random_hparams("ERM", f"mdlt:{name}", 3)["batch_size"] == 24


def test_a_byte_order_mark_is_ignored(tmp_path):
    file = manifest(tmp_path / "listed")
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert read(file)[0].env == "a"
