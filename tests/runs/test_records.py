"""Records survive torn lines, repeats and strangers, and each is named."""

import json

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
    assert [one["step"] for one in read] == [0, 10]
    assert problems == []
    # Sorted keys, one line each, as DomainBed writes them.
    assert path.read_text() == "".join(
        json.dumps(record(step, [0.1], [0.2], args([0])), sort_keys=True) + "\n" for step in (10, 0)
    )


def test_a_torn_last_line_is_skipped_and_named(tmp_path):
    path = tmp_path / "results.jsonl"
    read, problems = write(path, [line(0), line(10), line(20)[:40]])
    assert [one["step"] for one in read] == [0, 10]
    assert [str(one) for one in problems] == [f"{path}:3 is not a whole record and was skipped"]


def test_a_repeated_step_counts_once_the_last_stands(tmp_path):
    path = tmp_path / "results.jsonl"
    read, problems = write(path, [line(0, 0.1), line(10, 0.2), line(0, 0.3)])
    assert [(one["step"], one["env0_in_acc"]) for one in read] == [(0, 0.3), (10, 0.2)]
    assert [str(one) for one in problems] == [f"{path}:3 repeats step 0, which counts once"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("[]\n", "has no step"),
        ("null\n", "has no step"),
        ('{"step": 3}\n', "lacks args"),
        (json.dumps({**record(0, [0.5], [0.5], args([0])), "args": {**args([0]), "dataset": None}}) + "\n", "has args"),
        (json.dumps({**record(0, [0.5], [0.5], args([0])), "args": {**args([0]), "test_envs": 0}}) + "\n", "has args"),
        (line(0, float("nan")), "has env0_in_acc nan, not an accuracy,"),
        (line(0, 1.5), "has env0_in_acc 1.5, not an accuracy,"),
        (line(0, -0.1), "has env0_in_acc -0.1, not an accuracy,"),
        (line(0, float("inf")), "has env0_in_acc inf, not an accuracy,"),
        (line(0, env0_in_acc="high"), "has env0_in_acc 'high', not an accuracy,"),
        (line(0, env0_in_acc="1" * 1000), "has env0_in_acc '11111"),
        (line(0, env0_in_acc=True), "has env0_in_acc True, not an accuracy,"),
        (line(0, env0_in_acc=None), "has env0_in_acc None, not an accuracy,"),
        (line(0, env0_in_acc=10**400), "has env0_in_acc 1000"),
        (line(0, env2_out_macro_acc=2), "has env2_out_macro_acc 2, not an accuracy,"),
        *((line(step), "has no step") for step in (-1, 0.5, "0", True, None, 2**63)),
        *(
            (line(0, args={**args([0]), **wrong}), "has args that are not of a run")
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
        (line(0, args=[]), "lacks args"),
        ("7\n", "has no step"),
        ("1" * 5000 + "\n", "is not a whole record"),
        ("[" * 100_000 + "\n", "is not a whole record"),
    ],
)
def test_what_cannot_be_counted_is_skipped_and_named(tmp_path, bad, message):
    read, problems = write(tmp_path / "results.jsonl", [line(5), bad])
    assert [one["step"] for one in read] == [5]
    assert len(problems) == 1
    assert f"results.jsonl:2 {message}" in problems[0].text


def test_bytes_that_are_no_text_are_skipped_and_named(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\xff\xfe\x00\n" + line(5).encode() + b"\n" + line(7).encode().replace(b"ERM", b"\xe9RM"))
    read, problems = records.read(path)
    assert [one["step"] for one in read] == [5]
    assert [problem.text.split()[0] for problem in problems] == [f"{path}:{i}" for i in (1, 3, 4)]


def test_an_empty_file_has_no_records(tmp_path):
    assert write(tmp_path / "results.jsonl", []) == ([], [])
