"""What lies in the folder of a run: marks, records, live figures."""

import json

import pytest
from factories import args, record

from dg_batchformer.runs import files
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.runs.records import RunKey


def line(step):
    return json.dumps(record(step, [0.5], [0.5], args([0]))) + "\n"


def test_a_new_run_clears_an_earlier_ones_files_and_no_others(tmp_path):
    own = ["done", "failed", "results.jsonl", "progress.jsonl", "out.txt", "err.txt", "model.pkl", "model_step20.pkl"]
    for name in [*own, "job.json", "notes.txt"]:
        (tmp_path / name).touch()
    assert RunFolder(tmp_path).clear_earlier_run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "notes.txt"]
    assert not RunFolder(tmp_path / "new" / "folder").clear_earlier_run()


def test_files_are_cut_to_what_was_vouched_for(tmp_path):
    for name in ("results.jsonl", "progress.jsonl"):
        (tmp_path / name).write_text(line(0))
    wanted = RunFolder(tmp_path).record_sizes()
    for name in wanted:
        (tmp_path / name).write_text(line(0) + "torn")
    (tmp_path / "failed").touch()
    assert RunFolder(tmp_path).cut_records(wanted) == ""
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(wanted, line(0))


def test_each_file_with_lines_that_are_not_json_is_set_aside(tmp_path):
    names = ("results.jsonl", "progress.jsonl")
    for name in names:
        (tmp_path / name).write_text(f"torn{name}\n" + line(0))
    said = RunFolder(tmp_path).cut_records(RunFolder(tmp_path).record_sizes())
    asides = [next(tmp_path.glob(f"{name.removesuffix('.jsonl')}-*.aside")) for name in names]
    assert [path.read_text().partition("\n")[0] for path in asides] == ["tornresults.jsonl", "tornprogress.jsonl"]
    assert all(f"{tmp_path / name} has lines that" in said for name in names)
    assert all(f"was set aside as {aside.name}" in said for aside in asides)
    assert len(list(tmp_path.iterdir())) == 2


def test_records_of_another_run_are_seen_among_others(tmp_path):
    own = RunKey.from_args(args([0]))
    assert RunFolder(tmp_path).other_run(own) is None
    (tmp_path / "results.jsonl").write_text(line(0) + "[]\nnot JSON\n" + line(10))
    assert RunFolder(tmp_path).other_run(own) is None
    strange = record(10, [0.5], [0.5], {**args([1]), "protocol": "swad"})
    (tmp_path / "progress.jsonl").write_text(line(0) + json.dumps(strange) + "\n" + line(10))
    found = RunFolder(tmp_path).other_run(own)
    assert str(found) == "ERM on PACS, test_envs [1], trial_seed 0, hparams_seed 0, protocol swad"
    assert RunFolder(tmp_path).other_run(found) == own


def test_marks_as_far_as_the_disk_lets_them(tmp_path):
    assert RunFolder(tmp_path).failure() == ("", "")
    RunFolder(tmp_path).mark_failed("why", "details\n")
    first, reason = RunFolder(tmp_path).failure()
    assert first
    assert reason == "why"
    assert (tmp_path / files.FAILED).read_text() == "why\n"
    assert (tmp_path / files.ERR).read_text() == "details\n"
    RunFolder(tmp_path).mark_failed("why")
    assert RunFolder(tmp_path).failure()[0] != first
    RunFolder(tmp_path / "missing").mark_failed("why")  # says nothing, for there is nowhere to say it
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("written", ["", "{", "[]", '{"step": 1}'])
def test_what_is_no_figures_is_none(tmp_path, written):
    (tmp_path / files.LIVE).write_text(written)
    assert RunFolder(tmp_path).live() is None
