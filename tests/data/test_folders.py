"""What is found on the disk, in ImageFolder's order, and what is wrong with it."""

import shutil

import pytest
import torchvision
from factories import image_tree

from dg_batchformer.data.folders import scan
from dg_batchformer.errors import InputError


def test_order_is_that_of_imagefolder(tmp_path):
    root = image_tree(tmp_path)
    (root / "a" / "cat" / "deeper").mkdir()
    shutil.copy(root / "a" / "cat" / "0.jpg", root / "a" / "cat" / "deeper" / "Z.JPG")
    shutil.copy(root / "a" / "cat" / "0.jpg", root / "a" / "cat" / "10.jpg")
    (root / "a" / "cat" / "notes.txt").write_text("not an image")
    tree = scan(root)
    assert tree.classes == ["cat", "dog"]
    assert [folder.name for folder in tree.folders] == ["a", "b", "c"]
    for folder in tree.folders:
        expected = torchvision.datasets.ImageFolder(str(root / folder.name)).samples
        assert [(str(p), y) for p, y in zip(folder.paths, folder.labels, strict=True)] == expected


def test_stray_folders_are_ignored_and_said(tmp_path):
    root = image_tree(tmp_path)
    for stray in ("__MACOSX", ".git"):
        (root / stray / "x").mkdir(parents=True)
        (root / "a" / stray).mkdir()
    tree = scan(root)
    assert [folder.name for folder in tree.folders] == ["a", "b", "c"]
    assert tree.notes == ["ignored folders: .git, __MACOSX"]
    named = scan(root, ["c", "a"])
    assert [folder.name for folder in named.folders] == ["c", "a"]
    assert named.notes == ["ignored folders: .git, __MACOSX, b"]


@pytest.mark.parametrize("on_disk", ["Real World", "Real_World", "RealWorld", "real world"])
def test_spellings_of_a_name(tmp_path, on_disk):
    root = image_tree(tmp_path, environments=("Art", on_disk))
    assert [folder.name for folder in scan(root, ["Art", "Real World"]).folders] == ["Art", on_disk]


def test_everything_wrong_is_said_at_once(tmp_path):
    root = image_tree(tmp_path, classes=("cat", "dog", "elk"))
    shutil.rmtree(root / "a" / "dog")
    (root / "a" / "yak").mkdir()
    for path in (root / "b" / "elk").iterdir():
        path.unlink()
    with pytest.raises(InputError) as error:
        scan(root, ["a", "b", "c", "d", "e"])
    message = str(error.value)
    assert f"{root} has no environments d, e: expected a, b, c, d, e, found a, b, c" in message
    assert f"{root / 'a'} has different classes than the other environments: missing dog; extra yak" in message
    assert f"{root / 'b' / 'elk'} is an empty class" in message
    assert f"{root / 'a' / 'yak'} is an empty class" in message


def test_no_folder_no_classes_one_environment(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        scan(tmp_path / "missing")
    (tmp_path / "only").mkdir()
    with pytest.raises(ValueError, match=r"1 environment\(s\): expected at least 2") as error:
        scan(tmp_path)
    assert "has no class folders" in str(error.value)
