"""A fingerprint follows from the parts, from their order and their borders."""

import re

from dg_batchformer.data.benchmarks import load_dataset
from dg_batchformer.data.environments import fingerprint
from dg_batchformer.data.in_memory import digits_fingerprint


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
    assert digits_fingerprint([0, 25, 50, 75]) == found["RotatedDigits"] != digits_fingerprint([0, 25, 50, 80])
