"""Records survive torn lines, repeats and strangers, and each is named."""

import json
import random

import pytest
from factories import args, record

from dg_batchformer.runs import files, records


def write(path, lines):
    path.write_text("".join(lines))
    return records.read(path)


def line(step, acc=0.5, **extra):
    return json.dumps({**record(step, [acc], [acc], args([0])), **extra}) + "\n"


def test_reads_what_was_appended(tmp_path):
    path = tmp_path / "results.jsonl"
    for step in (10, 0):
        files.append(path, record(step, [0.1], [0.2], args([0])))
    read, problems = records.read(path)
    assert [one.step for one in read] == [0, 10]
    assert problems == []
    # Sorted keys, one line each, as DomainBed writes them.
    assert path.read_text() == "".join(
        json.dumps(record(step, [0.1], [0.2], args([0])), sort_keys=True) + "\n" for step in (10, 0)
    )


def test_a_torn_last_line_is_skipped_and_named(tmp_path):
    path = tmp_path / "results.jsonl"
    read, problems = write(path, [line(0), line(10), line(20)[:40]])
    assert [one.step for one in read] == [0, 10]
    assert [str(one) for one in problems] == [f"{path}:3 is not a complete record: skipped"]


def test_a_repeated_step_counts_once_the_last_stands(tmp_path):
    path = tmp_path / "results.jsonl"
    read, problems = write(path, [line(0, 0.1), line(10, 0.2), line(0, 0.3)])
    assert [(one.step, one.accuracies[0]) for one in read] == [(0, 0.3), (10, 0.2)]
    assert [str(one) for one in problems] == [f"{path}:3 repeats step 0: only the last counts"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("[]\n", "has no step"),
        ("null\n", "has no step"),
        ('{"step": 3}\n', "has no args"),
        (
            json.dumps({**record(0, [0.5], [0.5], args([0])), "args": {**args([0]), "dataset": None}}) + "\n",
            "has invalid args",
        ),
        (
            json.dumps({**record(0, [0.5], [0.5], args([0])), "args": {**args([0]), "test_envs": 0}}) + "\n",
            "has invalid args",
        ),
        (line(0, float("nan")), "has env0_in_acc nan (expected 0 to 1)"),
        (line(0, 1.5), "has env0_in_acc 1.5 (expected 0 to 1)"),
        (line(0, -0.1), "has env0_in_acc -0.1 (expected 0 to 1)"),
        (line(0, float("inf")), "has env0_in_acc inf (expected 0 to 1)"),
        (line(0, env0_in_acc="high"), "has env0_in_acc 'high' (expected 0 to 1)"),
        (line(0, env0_in_acc="1" * 1000), "has env0_in_acc '11111"),
        (line(0, env0_in_acc=True), "has env0_in_acc True (expected 0 to 1)"),
        (line(0, env0_in_acc=None), "has env0_in_acc None (expected 0 to 1)"),
        (line(0, env0_in_acc=10**400), "has env0_in_acc 1000"),
        (line(0, env2_out_macro_acc=2), "has env2_out_macro_acc 2 (expected 0 to 1)"),
        *((line(step), "has no step") for step in (-1, 0.5, "0", True, None, 2**63)),
        *(
            (line(0, args={**args([0]), **wrong}), "has invalid args")
            for wrong in (
                {"test_envs": [-1]},
                {"test_envs": ["0"]},
                {"test_envs": [True]},
                {"trial_seed": "0"},
                {"hparams_seed": 0.0},
                {"hparams_seed": None},
                {"algorithm": ["ERM"]},
                {"algorithm": "two\nlines"},
                {"algorithm": "\ud800"},
                {"dataset": "folder:\0"},
                {"protocol": None},
            )
        ),
        (line(0, args=[]), "has no args"),
        ("7\n", "has no step"),
        ("1" * 5000 + "\n", "is not a complete record"),
        ("[" * 100_000 + "\n", "is not a complete record"),
    ],
)
def test_what_cannot_be_counted_is_skipped_and_named(tmp_path, bad, message):
    read, problems = write(tmp_path / "results.jsonl", [line(5), bad])
    assert [one.step for one in read] == [5]
    assert len(problems) == 1
    assert f"results.jsonl:2 {message}" in problems[0].text


def test_bytes_that_are_no_text_are_skipped_and_named(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\xff\xfe\x00\n" + line(5).encode() + b"\n" + line(7).encode().replace(b"ERM", b"\xe9RM"))
    read, problems = records.read(path)
    assert [one.step for one in read] == [5]
    assert [problem.text.split()[0] for problem in problems] == [f"{path}:{i}" for i in (1, 3, 4)]


def test_an_empty_file_has_no_records(tmp_path):
    assert write(tmp_path / "results.jsonl", []) == ([], [])


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


def numbers(checkpoint):
    return checkpoint.step, repr(list(map(float, checkpoint.accuracies)))


@pytest.mark.parametrize("seed", range(8))
def test_a_file_read_at_once_holds_what_is_read_line_by_line(tmp_path, seed):
    path, rng, at_once = tmp_path / "results.jsonl", random.Random(seed), 0
    for _ in range(100):
        content = odd_lines(rng).encode()
        found = records._read_whole(content)
        if found is None:
            continue
        at_once += 1
        by_line, problems = records._read_by_line(path, content)
        assert problems == [], content
        (*_, last), _ = found
        assert list(map(numbers, found[0])) == list(map(numbers, by_line)), content
        assert repr(last.about) == repr(by_line[-1].about)
        assert {(one.about.key, one.about.n_environments) for one in by_line} == {(last.about.key, 2)}
    assert 0 < at_once < 100  # both were at work


def test_macro_accuracies_of_some_environments_alone(tmp_path):
    row = {**record(0, [0.1, 0.2], [0.3, 0.4], args([1], dataset="Mine")), "env1_in_macro_acc": 0.5}
    (found,), _ = write(tmp_path / "results.jsonl", [json.dumps(row) + "\n"])
    assert str(found.accuracies) == "(0.1, 0.2, 0.3, 0.4, nan, 0.5, nan, nan)"


def test_names_that_are_no_identifiers_are_read(tmp_path):
    row = {**record(0, [0.1, 0.2], [0.3, 0.4], args([1])), "class": 1, "a-b": {"c": []}, "field0": None}
    (found,), _ = records._read_whole((json.dumps(row) + "\n").encode())
    assert found.about.record == row
