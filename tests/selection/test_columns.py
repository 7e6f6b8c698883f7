"""A file in which nothing is amiss is read fast, and as the careful way reads it."""

import json
import random

import numpy as np
import pytest
from factories import args, record

from dg_batchformer.runs.records import RunKey
from dg_batchformer.selection import columns, reading


def odd_lines(rng):
    """The lines of a file of one run in which one thing or another may be amiss."""
    steps = range(0, 900, 300)
    rows = [
        {**record(step, [rng.random()] * 2, [rng.random()] * 2, args([0], dataset="Mine")), "loss": 1.0}
        for step in steps
    ]
    odd = rng.choice(rows)
    for change in rng.sample(CHANGES, rng.randrange(2)):
        change(odd)
    lines = [json.dumps(row, sort_keys=rng.random() < 0.8) for row in rows]
    for spoil in rng.sample(SPOILED, rng.randrange(2)):
        i = rng.randrange(len(lines))
        lines[i] = spoil(lines[i])
    return rng.choice(["\n", "\n", "\r\n"]).join(lines) + rng.choice(["\n", "\n", "\n", ""])


CHANGES = [
    *(lambda row, v=v: row.update(step=v) for v in (300, -1, 1.0, True, "1", None, 2**63, [0])),
    *(lambda row, v=v: row.update(env1_in_acc=v) for v in (0, 1, True, -0.1, 1.01, None, "0.5", [0.5], float("nan"))),
    *(lambda row, v=v: row.update(loss=v) for v in (float("nan"), float("inf"), 2**63, -0.0, "\ud800", "\n", {})),
    *(lambda row, v=v: row["args"].update(trial_seed=v) for v in (0.0, False, 1, None, "0")),
    *(lambda row, v=v: row["args"].update(test_envs=v) for v in ([1], [0.0], [False], [], 0, None)),
    *(lambda row, name=name: row.pop(name) for name in ("step", "args", "env0_out_acc")),
    lambda row: row.update(env0_in_macro_acc=0.5),
    lambda row: row["args"].update(more=1),
    lambda row: row["args"].pop("dataset"),
    lambda row: row.update(args=None),
]
SPOILED = [
    lambda line: line[:40],
    lambda line: "",
    lambda line: "null",
    lambda line: "[]",
    lambda line: f"[{line}]",
    lambda line: f"{line},{line}",
    lambda line: f"{line}{line}",
    lambda line: line.replace(", ", ",\r", 1),
    lambda line: line.replace(", ", ",\n", 1),
    lambda line: "\ufeff" + line,
    lambda line: "[" * 2000,
]


@pytest.mark.parametrize("seed", range(8))
def test_the_fast_way_reads_what_the_careful_one_reads(tmp_path, seed):
    path, rng, fast = tmp_path / "results.jsonl", random.Random(seed), 0
    (tmp_path / "done").touch()
    for _ in range(100):
        path.write_bytes(odd_lines(rng).encode())
        found = reading._ordinary(tmp_path)
        if found is None:
            continue
        fast += 1
        problems = []
        careful = reading._read(tmp_path, problems)
        assert problems == [], path.read_text()
        assert careful.planned is found.planned is None
        for name in ("key", "folder", "shared", "own"):
            assert repr(getattr(found.run, name)) == repr(getattr(careful.run, name)), path.read_text()
        for name in ("steps", "inside", "out", "macro"):
            one, other = getattr(found.run, name), getattr(careful.run, name)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    assert 0 < fast < 100  # both were at work


def test_macro_accuracies_of_some_environments_alone(tmp_path):
    row = {**record(0, [0.1, 0.2], [0.3, 0.4], args([1], dataset="Mine")), "env1_in_macro_acc": 0.5}
    found = columns.read((json.dumps(row) + "\n").encode())
    run = columns.run_of(RunKey.of(row["args"]), "folder", found, 2)
    np.testing.assert_array_equal(run.macro, [[np.nan, 0.5]])
    np.testing.assert_array_equal(run.inside, [[0.1, 0.2]])


def test_names_that_are_no_identifiers_are_read(tmp_path):
    row = {**record(0, [0.1, 0.2], [0.3, 0.4], args([1])), "class": 1, "a-b": {"c": []}, "field0": None}
    found = columns.read((json.dumps(row) + "\n").encode())
    assert found.last == row
    assert found.names == ("env0_in_acc", "env1_in_acc", "env0_out_acc", "env1_out_acc")
