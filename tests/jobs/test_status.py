"""The rates and times of a sweep by hand-made numbers, and what is read of its folders."""

import json
import os
import time
from dataclasses import asdict

import pytest

from dg_batchformer.jobs.folder import write
from dg_batchformer.jobs.plan import Sweep, plan
from dg_batchformer.jobs.states import Standing
from dg_batchformer.jobs.status import (
    Finished,
    Status,
    as_json,
    finished_runs,
    measured_seconds,
    runs_left,
    runs_per_hour,
    seconds_left,
)
from dg_batchformer.runs import live, records
from dg_batchformer.runs.claim import Owner
from dg_batchformer.runs.live import Live

NOW = 1_000_000.0


@pytest.fixture
def jobs(tmp_path):
    jobs = plan(Sweep(["RotatedDigits", "Debug28"], str(tmp_path / "sweep"), ["ERM"], n_hparams=1, n_trials=1))
    write(jobs)
    return jobs


def finish(job, seconds, ended=None):
    (job.folder / "results.jsonl").write_text(f'{{"step": 0}}\n{json.dumps({"step": 1, "run_seconds": seconds})}\n')
    (job.folder / "done").touch()
    if ended is not None:
        os.utime(job.folder / "done", (ended, ended))


@pytest.mark.parametrize(
    ("ended", "rate"),
    [
        ([], None),
        ([(NOW - 7200, 60)], None),  # longer ago than an hour
        ([(NOW, 60)], 60.0),  # one in the first minute
        ([(NOW - 60, 60), (NOW, 60)], 60.0),
        ([(NOW - 60, 60), (NOW - 60, 60)], 60.0),  # two at once, and a minute without
        ([(NOW - 1800, 60), (NOW - 3590, 3000), (NOW - 7200, 60)], 2.0),  # of an hour, no more
        ([(NOW + 500, 60)], 60.0),  # by a clock that is ahead
        ([(NOW, 0)], None),
    ],
)
def test_runs_per_hour(ended, rate):
    assert runs_per_hour(ended, NOW) == (rate if rate is None else pytest.approx(rate))


@pytest.mark.parametrize(
    ("left", "n_running", "seconds"),
    [
        ({}, 0, 0.0),
        ({}, 3, 0.0),
        ({"PACS": 4.0}, 0, None),
        ({"PACS": 4.0}, 1, 4 * 150.0),
        ({"PACS": 4.0, "VLCS": 0.5}, 2, (4 * 150.0 + 0.5 * 30.0) / 2),
        ({"Debug28": 2.0}, 1, 2 * 110.0),  # none of it has finished: as long as all others
    ],
)
def test_seconds_left(left, n_running, seconds):
    finished = [Finished("PACS", NOW, 100.0), Finished("PACS", NOW, 200.0), Finished("VLCS", NOW, 30.0)]
    assert seconds_left(left, finished, n_running) == (seconds if seconds is None else pytest.approx(seconds))
    assert seconds_left(left, [], n_running) == (None if left else 0.0)


def test_runs_left_are_whole_ones_and_shares_of_those_that_run(jobs):
    digits, debug = jobs[0], jobs[-1]
    figures = Live(step=3, steps=12, images_per_second=1.0, gpu_gb=None, seconds_left=1.0)
    standings = [Standing(digits, state) for state in ("done", "failed", "waiting", "abandoned", "running")]
    standings += [Standing(digits, "running", live=figures), Standing(debug, "done")]
    assert runs_left(standings) == {"RotatedDigits": 3.75}


def test_what_finished_runs_took(jobs):
    for job, seconds in zip(jobs[:3], (10.0, 20.0, 40.0), strict=True):
        finish(job, seconds, NOW)
    (jobs[3].folder / "done").touch()  # without a record
    (jobs[4].folder / "results.jsonl").write_text('{"run_seconds": 1}\n')  # not done
    finish(jobs[5], "long")
    assert finished_runs(jobs) == [Finished("RotatedDigits", NOW, seconds) for seconds in (10.0, 20.0, 40.0)]
    finish(jobs[5], 7.0)
    assert measured_seconds(jobs) == {"RotatedDigits": pytest.approx(70 / 3), "Debug28": 7.0}
    # One that was replaced is read again.
    finish(jobs[0], 30.0, NOW + 1)
    assert measured_seconds(jobs)["RotatedDigits"] == 30.0


def test_a_second_look_reads_no_results_again(jobs, monkeypatch):
    for job in jobs:
        finish(job, 10.0, NOW)
    read = []
    original = records.last_lines
    monkeypatch.setattr(records, "last_lines", lambda *args: read.append(args) or original(*args))
    first = Status.of(jobs)
    assert len(read) == len(jobs)
    assert Status.of(jobs) == first
    assert len(read) == len(jobs)


def test_as_json(jobs):
    now = time.time()
    finish(jobs[0], 30.0, now - 30)
    (jobs[1].folder / "failed").touch()
    (jobs[1].folder / "err.txt").write_text("one\ntwo\nthree\nRuntimeError: ü\n", encoding="utf-8")
    (jobs[2].folder / "claim-1.json").write_text(json.dumps(asdict(Owner("node", 7, since=5.0))))
    live.write(jobs[2].folder, Live(1, 4, 12.5, 1.5, 6.0))
    told = json.loads(json.dumps(as_json(Status.of(jobs))))
    assert told.keys() == {"counts", "runs_per_hour", "seconds_left", "groups", "runs"}
    assert told["counts"] == {"done": 1, "failed": 1, "running": 1, "abandoned": 0, "waiting": 4}
    assert told["runs_per_hour"] == pytest.approx(60.0, rel=0.2)
    assert told["seconds_left"] == pytest.approx(30 * (0.75 + 4))
    assert told["groups"] == [
        {"dataset": "RotatedDigits", "algorithm": "ERM", **told["counts"], "waiting": 1},
        {"dataset": "Debug28", "algorithm": "ERM", **dict.fromkeys(told["counts"], 0), "waiting": 3},
    ]
    assert [run["folder"] for run in told["runs"]] == [job.folder.name for job in jobs]
    assert len({tuple(run) for run in told["runs"]}) == 1
    assert 0 <= told["runs"][2].pop("seconds_since_sign_of_life") < 60
    assert told["runs"][2] == {
        "folder": jobs[2].folder.name,
        "dataset": "RotatedDigits",
        "algorithm": "ERM",
        "test_envs": [2],
        "trial_seed": 0,
        "hparams_seed": 0,
        "state": "running",
        "begun": True,
        "owner": "7@node",
        "since": 5.0,
        "step": 1,
        "steps": 4,
        "images_per_second": 12.5,
        "gpu_gb": 1.5,
        "seconds_left": 6.0,
        "errors": [],
    }
    assert told["runs"][1]["errors"] == ["two", "three", "RuntimeError: ü"]
    assert {told["runs"][i][name] for i in (0, 1, 3) for name in ("owner", "since", "step", "gpu_gb")} == {None}
