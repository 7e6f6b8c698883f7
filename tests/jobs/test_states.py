"""How a run stands follows from its marks, its claim and when that was touched last."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from dg_batchformer.jobs.folder import write
from dg_batchformer.jobs.plan import Sweep, plan
from dg_batchformer.jobs.states import look, summary
from dg_batchformer.runs import claim, live
from dg_batchformer.runs.claim import LEASE_SECONDS, Owner, Watch, claimed
from dg_batchformer.runs.live import Live

FIGURES = Live(step=3, steps=9, images_per_second=12.5, gpu_gb=1.5, seconds_left=6.0)


@pytest.fixture
def job(tmp_path):
    (job, *_) = plan(Sweep(["Debug28"], str(tmp_path / "sweep"), ["ERM"], n_hparams=1, n_trials=1))
    write([job])
    return job


@pytest.fixture(scope="module")
def dead():
    """A process of this machine that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return replace(Owner.myself(), pid=process.pid)


def claim_by(job, owner, silent=0.0, name="claim-1.json"):
    path = job.folder / name
    path.write_text(json.dumps(asdict(owner)))
    os.utime(path, (time.time() - silent,) * 2)
    return path


def elsewhere():
    return Owner("another", 7, since=1000.0, space="another boot")


def stand(job, watch=None):
    (one,) = look([job], watch)
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
def test_without_an_owner_its_marks_say_it(job, marks, state, begun, ended):
    for mark in marks:
        (job.folder / mark).touch()
    if ended:
        claim_by(job, elsewhere(), name="claim-3.ended")
    one = stand(job)
    assert (one.state, one.begun, one.owner, one.silent_seconds) == (state, begun, None, None)


@pytest.mark.parametrize("marks", [[], ["out.txt"], ["out.txt", "failed"]])
def test_a_run_is_running_while_its_owner_lives(job, marks):
    for mark in marks:
        (job.folder / mark).touch()
    live.write(job.folder, FIGURES)
    with claimed(job.folder):
        one = stand(job)
        assert (one.state, one.owner.pid, one.live) == ("running", os.getpid(), FIGURES)
        assert 0 <= one.silent_seconds < LEASE_SECONDS
    assert stand(job).state == ("failed" if "failed" in marks else "waiting")


def test_a_dead_process_has_abandoned_its_run(job, dead):
    claim_by(job, dead)
    live.write(job.folder, FIGURES)
    one = stand(job)
    assert (one.state, one.owner, one.live) == ("abandoned", dead, None)
    (job.folder / "failed").write_text("its process was killed\n")
    assert (stand(job).state, stand(job).errors) == ("failed", ["its process was killed"])
    (job.folder / "done").touch()
    assert stand(job).state == "done"


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
def test_at_one_look_the_clock_says_how_old_a_sign_of_life_is(job, silent, state, said):
    claim_by(job, elsewhere(), silent)
    one = stand(job)
    assert (one.state, one.owner) == (state, elsewhere())
    assert said <= one.silent_seconds < said + 5


def test_a_watch_knows_better_than_the_clock(job, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(claim.time, "monotonic", lambda: now[0])
    watch, path = Watch(), claim_by(job, elsewhere(), silent=3600.0)
    assert stand(job, watch).state == "abandoned"
    os.utime(path, (5.0, 5.0))  # it lives, its clock is wrong
    assert stand(job, watch).state == "running"
    now[0] += LEASE_SECONDS + 1
    assert stand(job, watch).state == "abandoned"
    path = claim_by(job, elsewhere(), silent=-3600.0, name="claim-2.json")
    assert stand(job, watch).state == "running"
    now[0] += LEASE_SECONDS + 1
    assert stand(job, watch).state == "abandoned"


def test_a_claim_that_is_being_written_runs(job):
    (job.folder / "claim-1.json").touch()
    one = stand(job)
    assert (one.state, one.owner) == ("running", None)


def test_a_claim_that_goes_while_it_is_looked_at(job, monkeypatch):
    path = claim_by(job, elsewhere())

    def look_late(path, original=claim.owner_of):
        owner = original(path)
        path.rename(path.with_suffix(".ended"))
        return owner

    monkeypatch.setattr(claim, "owner_of", look_late)  # which a watch asks
    assert stand(job).state == "waiting"
    assert not path.exists()


def test_the_errors_of_a_failed_run(job):
    (job.folder / "failed").write_text("KeyError: 'é'\n", encoding="utf-8")
    assert stand(job).errors == ["KeyError: 'é'"]
    (job.folder / "err.txt").write_text("a\nb\n\n  c\nKeyError: 'é'\n", encoding="utf-8")
    assert stand(job).errors == ["b", "  c", "KeyError: 'é'"]


def test_the_summary(tmp_path, dead):
    jobs = plan(Sweep(["Debug28"], str(tmp_path / "sweep"), ["ERM", "IRM"], n_hparams=1, n_trials=1))
    write(jobs)
    (jobs[0].folder / "done").touch()
    (jobs[1].folder / "failed").touch()
    claim_by(jobs[2], elsewhere())
    claim_by(jobs[3], dead)
    assert summary(look(jobs)) == "6 runs: 1 done, 1 failed, 1 running, 1 abandoned, 2 waiting"
