"""The folder of a run: its state by marks, claim and signs of life, and what else lies in it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
from factories import args, record

from dg_batchformer.runs import claim, files
from dg_batchformer.runs.claim import LEASE_SECONDS, Owner, Watch
from dg_batchformer.runs.folder import Live, RunFolder, standings
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
    assert all(f"renamed to {aside.name}" in said for aside in asides)
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


FIGURES = Live(step=3, steps=9, images_per_second=12.5, gpu_gb=1.5, seconds_left=6.0)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


@pytest.fixture(scope="module")
def dead():
    """A process of this machine that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return replace(Owner.myself(), pid=process.pid)


def claim_by(folder, owner, silent=0.0, name="claim-1.json"):
    path = folder / name
    path.write_text(json.dumps(asdict(owner)))
    os.utime(path, (time.time() - silent,) * 2)
    return path


def elsewhere():
    return Owner("another", 7, since=1000.0, space="another boot")


def stand(folder, watch=None):
    (one,) = standings([folder], watch)
    return one


@pytest.mark.parametrize(
    ("marks", "state", "begun"),
    [
        ([], "waiting", False),
        (["out.txt"], "waiting", True),
        (["out.txt", "failed"], "failed", True),
        (["out.txt", "failed", "done"], "done", True),
    ],
)
@pytest.mark.parametrize("ended", [False, True])
def test_without_an_owner_its_marks_say_it(folder, marks, state, begun, ended):
    for mark in marks:
        (folder / mark).touch()
    if ended:
        claim_by(folder, elsewhere(), name="claim-3.ended")
    one = stand(folder)
    assert (one.state, one.begun, one.owner, one.silent_seconds) == (state, begun, None, None)


@pytest.mark.parametrize("marks", [[], ["out.txt"], ["out.txt", "failed"]])
def test_a_run_is_running_while_its_owner_lives(folder, marks):
    for mark in marks:
        (folder / mark).touch()
    folder.write_live(FIGURES)
    with folder.claimed():
        one = stand(folder)
        assert (one.state, one.owner.pid, one.live) == ("running", os.getpid(), FIGURES)
        assert 0 <= one.silent_seconds < LEASE_SECONDS
    assert stand(folder).state == ("failed" if "failed" in marks else "waiting")


def test_a_dead_process_has_abandoned_its_run(folder, dead):
    claim_by(folder, dead)
    folder.write_live(FIGURES)
    one = stand(folder)
    assert (one.state, one.owner, one.live) == ("abandoned", dead, None)
    (folder / "failed").write_text("its process was killed\n")
    assert (stand(folder).state, stand(folder).errors) == ("failed", ["its process was killed"])
    (folder / "done").touch()
    assert stand(folder).state == "done"


@pytest.mark.parametrize(
    ("silent", "state", "said"),
    [
        (-3600.0, "running", 0.0),  # the clock of another machine is ahead
        (0.0, "running", 0.0),
        (LEASE_SECONDS - 10, "running", LEASE_SECONDS - 10),
        (LEASE_SECONDS + 10, "abandoned", LEASE_SECONDS + 10),
        (1e9, "abandoned", 1e9),
    ],
)
def test_at_one_look_the_clock_says_how_old_a_sign_of_life_is(folder, silent, state, said):
    claim_by(folder, elsewhere(), silent)
    one = stand(folder)
    assert (one.state, one.owner) == (state, elsewhere())
    assert said <= one.silent_seconds < said + 5


def test_a_watch_knows_better_than_the_clock(folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(claim.time, "monotonic", lambda: now[0])
    watch, path = Watch(), claim_by(folder, elsewhere(), silent=3600.0)
    assert stand(folder, watch).state == "abandoned"
    os.utime(path, (5.0, 5.0))  # it lives, its clock is wrong
    assert stand(folder, watch).state == "running"
    now[0] += LEASE_SECONDS + 1
    assert stand(folder, watch).state == "abandoned"
    path = claim_by(folder, elsewhere(), silent=-3600.0, name="claim-2.json")
    assert stand(folder, watch).state == "running"
    now[0] += LEASE_SECONDS + 1
    assert stand(folder, watch).state == "abandoned"


def test_a_claim_that_is_being_written_runs(folder):
    (folder / "claim-1.json").touch()
    one = stand(folder)
    assert (one.state, one.owner) == ("running", None)


def test_a_claim_that_goes_while_it_is_looked_at(folder, monkeypatch):
    path = claim_by(folder, elsewhere())

    def look_late(path, original=claim.owner_of):
        owner = original(path)
        path.rename(path.with_suffix(".ended"))
        return owner

    monkeypatch.setattr(claim, "owner_of", look_late)  # which a watch asks
    assert stand(folder).state == "waiting"
    assert not path.exists()


def test_the_errors_of_a_failed_run(folder):
    (folder / "failed").write_text("KeyError: 'é'\n", encoding="utf-8")
    assert stand(folder).errors == ["KeyError: 'é'"]
    (folder / "err.txt").write_text("a\nb\n\n  c\nKeyError: 'é'\n", encoding="utf-8")
    assert stand(folder).errors == ["b", "  c", "KeyError: 'é'"]
