"""Spawrious: the combinations by hand; tests/fidelity compares with DomainBed's classes."""

import pytest
from factories import spawrious_files

from dg_batchformer.data import load_dataset, spawrious
from dg_batchformer.errors import InputError


def test_one_to_one():
    places = spawrious.PLACES["O2O_easy"]
    first = [tuple(part) for part in spawrious.parts(places, "SC_group_1")]
    assert first[0] == ("0", "desert", "bulldog", 3072)
    assert first[3] == ("0", "snow", "corgi", 3072)
    assert first[4:] == [("0", "beach", breed, 96) for breed in ("bulldog", "dachshund", "labrador", "corgi")]
    second = [tuple(part) for part in spawrious.parts(places, "SC_group_2")]
    assert second[0] == ("1", "desert", "bulldog", 2756)
    assert second[-1] == ("1", "beach", "corgi", 412)
    assert {part.folder for part in spawrious.parts(places, "Test")} == {"0", "1"}


def test_many_to_many():
    places = spawrious.PLACES["M2M_hard"]
    of = {name: [part.place for part in spawrious.parts(places, name)] for name in spawrious.ENVIRONMENTS}
    assert of["SC_group_1"] == ["dirt", "jungle", "snow", "beach"]
    assert of["SC_group_2"] == ["jungle", "dirt", "beach", "snow"]
    assert of["Test"] == ["snow", "beach", "dirt", "jungle", "beach", "snow", "jungle", "dirt"]


def test_the_training_places_of_a_breed_are_never_its_test_places():
    for places in spawrious.PLACES.values():
        seen = {
            (part.breed, part.place)
            for group in (0, 1)
            for part in spawrious.group_of(places, places.training, group, 1)
        }
        tested = {(part.breed, part.place) for part in spawrious.parts(places, "Test")}
        assert not seen & tested


def test_images_are_loaded_and_never_cropped(tmp_path, monkeypatch):
    monkeypatch.setattr(spawrious, "N_USUAL", (2, 1))
    monkeypatch.setattr(spawrious, "N_IMAGES", 3)
    dataset = load_dataset("SpawriousO2O_easy", str(spawrious_files(tmp_path, n=3)))
    assert dataset.classes == ("bulldog", "corgi", "dachshund", "labrador")
    assert dataset.sizes == [24, 4 * 2 + 4 * 1, 4 * 1 + 4 * 2]
    assert not any(environment.originals.any() for environment in dataset.environments)


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="needs --data_dir, the folder that contains 0/desert/bulldog/"):
        load_dataset("SpawriousM2M_easy")
    with pytest.raises(InputError) as error:
        load_dataset("SpawriousM2M_easy", str(tmp_path))
    assert len(str(error.value).splitlines()) == 16
    assert "dirt/bulldog is not a folder: expected images of SpawriousM2M_easy" in str(error.value)
