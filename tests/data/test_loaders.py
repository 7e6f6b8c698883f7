"""RotatedDigits: every digit once, turned as it says. Fingerprints: they follow from parts, order and borders."""

import dataclasses
import re

import torch
from sklearn.datasets import load_digits

from dg_batchformer.data import BENCHMARKS, load_dataset
from dg_batchformer.data.environments import fingerprint
from dg_batchformer.data.loaders import load_digits as load


def turned_by(*angles):
    return load(dataclasses.replace(BENCHMARKS["RotatedDigits"], environments=angles))


def test_every_digit_is_in_one_environment():
    dataset = load_dataset("RotatedDigits")
    assert dataset.sizes == [450, 449, 449, 449]
    assert [environment.name for environment in dataset.environments] == list(BENCHMARKS["RotatedDigits"].environments)
    labels = torch.empty(1797, dtype=torch.long)
    for i, environment in enumerate(dataset.environments):
        labels[i::4] = environment.labels
    assert labels.tolist() == load_digits().target.tolist()


def test_images_are_the_originals_enlarged_and_turned():
    original = torch.from_numpy(load_digits().images[:2]).float() / 16
    upright, turned = (turned_by(angle).environments[0].images[:2, 0] for angle in ("0", "90"))
    assert upright.shape == (2, 16, 16)
    # Bilinear enlargement by two: a new pixel is three quarters the nearest old one, one quarter the next.
    enlarge = torch.zeros(16, 8)
    for i in range(16):
        enlarge[i, i // 2] += 0.75
        enlarge[i, min(max(i // 2 + (1 if i % 2 else -1), 0), 7)] += 0.25
    torch.testing.assert_close(upright, enlarge @ original @ enlarge.T)
    torch.testing.assert_close(turned, torch.rot90(upright, 1, (1, 2)), rtol=0, atol=1e-5)


def test_the_same_every_time():
    one, other = (load_dataset("RotatedDigits").environments[2].images for _ in range(2))
    assert torch.equal(one, other)


def test_other_parts_are_other_fingerprints():
    cases = [[], [b""], [b"ab"], [b"a", b"b"], [b"b", b"a"], [b"ab", b""]]
    found = [fingerprint(case) for case in cases]
    assert len(set(found)) == len(cases)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in found)
    assert found == [fingerprint(iter(case)) for case in cases]


def test_data_in_memory_has_one():
    names = ("RotatedDigits", "Debug28", "Debug224")
    found = {name: load_dataset(name).fingerprint for name in names}
    assert len(set(found.values())) == 3
    assert found == {name: load_dataset(name).fingerprint for name in names}
    same, other = (turned_by("0", "25", "50", last).fingerprint for last in ("75", "80"))
    assert same == found["RotatedDigits"] != other
