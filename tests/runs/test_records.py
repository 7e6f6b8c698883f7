"""Records survive torn lines, repeats and strangers, and each is named."""

import json

import pytest
from factories import args, record

from dg_batchformer.runs import records


def write(path, lines):
    path.write_text("".join(lines))
    return records.read(path)


def line(step, acc=0.5, **extra):
    return json.dumps({**record(step, [acc], [acc], args([0])), **extra}) + "\n"


def test_reads_what_was_appended(tmp_path):
    path = tmp_path / "results.jsonl"
    for step in (10, 0):
        records.append(path, record(step, [0.1], [0.2], args([0])))
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


def test_a_new_run_clears_an_earlier_ones_files_and_no_others(tmp_path):
    own = ["done", "failed", "results.jsonl", "progress.jsonl", "out.txt", "err.txt", "model.pkl", "model_step20.pkl"]
    for name in [*own, "job.json", "notes.txt"]:
        (tmp_path / name).touch()
    assert records.start(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "notes.txt"]
    assert not records.start(tmp_path / "new" / "folder")


def test_files_are_cut_to_what_was_vouched_for(tmp_path):
    for name in ("results.jsonl", "progress.jsonl"):
        (tmp_path / name).write_text(line(0))
    wanted = records.sizes(tmp_path)
    for name in wanted:
        (tmp_path / name).write_text(line(0) + "torn")
    (tmp_path / "failed").touch()
    assert records.cut(tmp_path, wanted) == ""
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(wanted, line(0))


def test_each_file_with_lines_that_are_not_json_is_set_aside(tmp_path):
    names = ("results.jsonl", "progress.jsonl")
    for name in names:
        (tmp_path / name).write_text(f"torn{name}\n" + line(0))
    said = records.cut(tmp_path, records.sizes(tmp_path))
    asides = [next(tmp_path.glob(f"{name.removesuffix('.jsonl')}-*.aside")) for name in names]
    assert [path.read_text().partition("\n")[0] for path in asides] == ["tornresults.jsonl", "tornprogress.jsonl"]
    assert all(f"{tmp_path / name} has lines that" in said for name in names)
    assert all(f"was set aside as {aside.name}" in said for aside in asides)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_small_file_is_marked_once(tmp_path):
    for text in ("first", "second"):
        records.mark_once(tmp_path / "note", text)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("note", "first")]


def test_a_small_file_is_marked_once_where_files_have_no_links(tmp_path, monkeypatch):
    def refused(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(records.os, "link", refused)
    test_a_small_file_is_marked_once(tmp_path)


def test_records_of_another_run_are_seen_among_others(tmp_path):
    own = records.RunKey.of(args([0]))
    assert records.other_run(tmp_path, own) is None
    (tmp_path / "results.jsonl").write_text(line(0) + "[]\nnot JSON\n" + line(10))
    assert records.other_run(tmp_path, own) is None
    strange = record(10, [0.5], [0.5], {**args([1]), "protocol": "swad"})
    (tmp_path / "progress.jsonl").write_text(line(0) + json.dumps(strange) + "\n" + line(10))
    found = records.other_run(tmp_path, own)
    assert str(found) == "ERM on PACS, test_envs [1], trial_seed 0, hparams_seed 0, protocol swad"
    assert records.other_run(tmp_path, found) == own


def test_last_lines(tmp_path):
    log = tmp_path / "log"
    assert records.last_lines(log) == []
    log.write_text("one\n\ntwo\nthree\nfour\n\n")
    assert records.last_lines(log) == ["two", "three", "four"]
    assert records.last_lines(log, 9) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("length", [10, records.TAIL_BYTES - 1, records.TAIL_BYTES, 5 * records.TAIL_BYTES])
def test_the_last_lines_of_a_long_file_are_whole(tmp_path, length):
    lines = ["é" * length + str(i) for i in range(4)]
    (tmp_path / "log").write_text("\n".join(["earlier"] * 9999 + lines) + "\n", encoding="utf-8")
    assert records.last_lines(tmp_path / "log") == lines[1:]
    assert records.last_lines(tmp_path / "log", 1) == lines[3:]
