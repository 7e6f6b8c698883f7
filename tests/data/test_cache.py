"""The cache of decoded images: what is in it, and when it is built."""

import os
import shutil
import threading

import numpy as np
import pytest
import torch
from factories import image_tree
from PIL import Image

from dg_batchformer.data import cache as caches
from dg_batchformer.data.cache import open_cache
from dg_batchformer.data.folders import Source, scan
from dg_batchformer.errors import InputError


def opened(root, cache_dir=None, name="mine", image_cache=None):
    return open_cache(name, scan(root), Source(cache_dir=cache_dir, image_cache=image_cache, threads=2))


def files(root):
    return scan(root).paths


def test_images_of_one_small_size_are_kept_as_they_are(tmp_path):
    root = image_tree(tmp_path / "mine", size=24)
    cache = opened(root)
    assert cache.images.dtype == torch.uint8
    assert cache.images.shape == (24, 24, 28, 3)
    assert cache.originals.tolist() == [[24, 28]] * 24
    for image, path in zip(cache.images, files(root), strict=True):
        assert np.array_equal(image.numpy(), np.asarray(Image.open(path).convert("RGB")))


def test_others_are_resized_and_their_own_size_is_known(tmp_path):
    root = image_tree(tmp_path / "mine", size=24)
    path = files(root)[3]
    Image.fromarray(np.full((300, 500, 3), 77, dtype=np.uint8)).save(path)
    cache = opened(root)
    assert cache.images.shape == (24, 256, 256, 3)
    assert cache.originals[3].tolist() == [300, 500]
    assert cache.originals[4].tolist() == [24, 28]
    assert (cache.images[3].int() - 77).abs().max() <= 1


def test_gray_and_palette_images_become_colour(tmp_path):
    root = image_tree(tmp_path / "mine", size=24)
    for path, mode in zip(files(root), ("L", "P", "RGBA", "1"), strict=False):
        Image.open(path).convert(mode).save(path.with_suffix(".png"))
        path.unlink()
    assert opened(root).images.shape == (24, 24, 28, 3)


def change_time(path):
    os.utime(path, ns=(1, 1))


def change_name(path):
    path.rename(path.with_name("renamed.jpg"))


def change_content(path):
    Image.new("RGB", (28, 24)).save(path)


@pytest.mark.parametrize("change", [change_time, change_name, change_content, os.unlink])
def test_it_is_built_once_and_again_when_the_images_change(tmp_path, monkeypatch, change):
    root = image_tree(tmp_path / "mine")
    builds = []
    build = caches.build
    monkeypatch.setattr(caches, "build", lambda *args: (builds.append(1), build(*args)))
    first = opened(root)
    assert opened(root).folder == first.folder
    assert len(builds) == 1
    change(files(root)[5])
    second = opened(root)
    assert len(builds) == 2
    assert second.folder != first.folder
    assert list(second.folder.parent.iterdir()) == [second.folder]  # the old one is gone
    assert len(second.images) == len(files(root))


def test_the_fingerprint_is_that_of_names_and_bytes(tmp_path):
    root = image_tree(tmp_path / "mine")
    first = opened(root).fingerprint
    assert len(first) == 16
    shutil.copytree(root, tmp_path / "other" / "yours", copy_function=shutil.copyfile)  # which leaves times behind
    assert opened(tmp_path / "other" / "yours").fingerprint == opened(root).fingerprint == first
    change_time(files(root)[5])
    assert opened(root).fingerprint == first
    found = {first}
    for change in (change_content, change_name, os.unlink):
        change(files(root)[5])
        found.add(opened(root).fingerprint)
    assert len(found) == 4


def test_bytes_that_change_behind_an_old_time_are_noticed_when_the_cache_is_built_again(tmp_path):
    root = image_tree(tmp_path / "mine")
    path = files(root)[5]
    before, first = path.stat(), opened(root)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert opened(root).fingerprint == first.fingerprint
    shutil.rmtree(first.folder)
    second = opened(root)
    assert second.folder == first.folder
    assert second.fingerprint != first.fingerprint


def test_corrupt_files_count_as_they_are(tmp_path):
    root = image_tree(tmp_path / "mine")
    found = set()
    for text in ("no image", "none either"):
        files(root)[2].write_text(text)
        found.add(opened(root).fingerprint)
    files(root)[2].unlink()
    assert len({*found, opened(root).fingerprint}) == 3


def test_a_cache_of_an_older_version_is_replaced(tmp_path, monkeypatch):
    root = image_tree(tmp_path / "mine")
    monkeypatch.setattr(caches, "VERSION", caches.VERSION - 1)
    old = opened(root).folder
    monkeypatch.undo()
    assert opened(root).folder != old
    assert not old.exists()


def test_it_lies_beside_the_images_or_where_it_is_told_to(tmp_path):
    root = image_tree(tmp_path / "mine")
    assert opened(root).folder.parent == tmp_path / ".dg-batchformer-cache" / "mine"
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["a", "b", "c"]  # DomainBed's environments
    assert opened(root, str(tmp_path / "elsewhere")).folder.is_relative_to(tmp_path / "elsewhere")
    assert [folder.name for folder in scan(root).folders] == ["a", "b", "c"]
    two = [opened(root, str(tmp_path / "elsewhere"), name).folder for name in ("mine", "yours")]
    assert all(folder.is_dir() for folder in two)


def test_corrupt_images_are_known_by_index(tmp_path):
    root = image_tree(tmp_path / "mine", size=300)
    paths = files(root)
    paths[2].write_text("no image")
    data = paths[7].read_bytes()
    paths[7].write_bytes(data[: len(data) // 2])
    cache = opened(root)
    assert set(cache.corrupt) == {2, 7}
    assert "truncated" in cache.corrupt[7]
    assert not cache.images[2].any()


def test_a_build_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    root = image_tree(tmp_path / "mine")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caches, "put", full)
    with pytest.raises(OSError, match="No space left"):
        opened(root)
    assert list((tmp_path / ".dg-batchformer-cache" / "mine").iterdir()) == []


def test_two_builders_at_once_make_one_cache(tmp_path):
    root = image_tree(tmp_path / "mine")
    results = []
    threads = [threading.Thread(target=lambda: results.append(opened(root))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result.folder for result in results}) == 1
    assert len(results) == 4
    assert list(results[0].folder.parent.iterdir()) == [results[0].folder]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    root = image_tree(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/mine-.* cannot be written to .*give another --cache_dir"):
        opened(root, str(tmp_path / "file"))
