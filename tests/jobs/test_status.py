"""The status of a sweep: rates and times by hand-made numbers, and what `sweep status` shows."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
from factories import jobs_of

from dg_batchformer.jobs import status
from dg_batchformer.jobs.folder import write
from dg_batchformer.jobs.launchers.local import Local, run_at
from dg_batchformer.jobs.status import (
    Finished,
    Look,
    Status,
    finished_runs,
    look,
    mean_seconds,
    runs_left,
    runs_per_hour,
    seconds_left,
    summary,
    text,
)
from dg_batchformer.runs import files
from dg_batchformer.runs.claim import Owner
from dg_batchformer.runs.folder import Live, Standing, State

NOW = 1_000_000.0


@pytest.fixture
def jobs(tmp_path):
    jobs = jobs_of(tmp_path / "sweep", ["RotatedDigits", "Debug28"])
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
    finished = [Finished("PACS", *one) for one in ended]
    assert runs_per_hour(finished, NOW) == (rate if rate is None else pytest.approx(rate))


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
    looks = [Look(digits, Standing(state)) for state in State]
    looks += [Look(digits, Standing(State.RUNNING, live=figures)), Look(debug, Standing(State.DONE))]
    assert runs_left(looks) == {"RotatedDigits": 3.75}


def test_what_finished_runs_took(jobs):
    for job, seconds in zip(jobs[:3], (10.0, 20.0, 40.0), strict=True):
        finish(job, seconds, NOW)
    (jobs[3].folder / "done").touch()  # without a record
    (jobs[4].folder / "results.jsonl").write_text('{"run_seconds": 1}\n')  # not done
    finish(jobs[5], "long")
    assert finished_runs(jobs) == [Finished("RotatedDigits", NOW, seconds) for seconds in (10.0, 20.0, 40.0)]
    finish(jobs[5], 7.0)
    assert mean_seconds(finished_runs(jobs)) == {"RotatedDigits": pytest.approx(70 / 3), "Debug28": 7.0}
    # One that was replaced is read again.
    finish(jobs[0], 30.0, NOW + 1)
    assert mean_seconds(finished_runs(jobs))["RotatedDigits"] == 30.0


def test_a_second_look_reads_no_results_again(jobs, monkeypatch):
    for job in jobs:
        finish(job, 10.0, NOW)
    read = []
    original = files.last_lines
    monkeypatch.setattr(files, "last_lines", lambda *args: read.append(args) or original(*args))
    first = Status.from_jobs(jobs)
    assert len(read) == len(jobs)
    assert Status.from_jobs(jobs) == first
    assert len(read) == len(jobs)


def test_as_json(jobs):
    now = time.time()
    finish(jobs[0], 30.0, now - 30)
    (jobs[1].folder / "failed").touch()
    (jobs[1].folder / "err.txt").write_text("one\ntwo\nthree\nRuntimeError: ü\n", encoding="utf-8")
    (jobs[2].folder / "claim-1.json").write_text(json.dumps(asdict(Owner("node", 7, since=5.0))))
    jobs[2].folder.write_live(Live(1, 4, 12.5, 1.5, 6.0))
    told = json.loads(json.dumps(Status.from_jobs(jobs).as_json()))
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


def test_the_summary(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    jobs = jobs_of(tmp_path / "sweep", algorithms=["ERM", "IRM"])
    write(jobs)
    (jobs[0].folder / "done").touch()
    (jobs[1].folder / "failed").touch()
    for job, owner in ((jobs[2], Owner("another", 7, 0.0)), (jobs[3], replace(Owner.myself(), pid=process.pid))):
        (job.folder / "claim-1.json").write_text(json.dumps(asdict(owner)))
    assert summary(look(jobs)) == "6 runs: 1 done, 1 failed, 1 running, 1 abandoned, 2 waiting"


def rows(shown):
    """Lines with one blank between words."""
    return [" ".join(line.split()) for line in shown.splitlines()]


def test_a_sweep_in_all_states(tmp_path):
    jobs = jobs_of(tmp_path, algorithms=["ERM", "IRM"])
    owner = Owner("node", 7, since=time.time())
    figures = Live(1200, 5001, 310.44, 2.36, 61.0)
    looks = [
        Look(jobs[0], Standing(State.DONE)),
        Look(jobs[1], Standing(State.ABANDONED, owner=Owner("gone", 8, since=0.0), silent_seconds=4000.0)),
        Look(jobs[2], Standing(State.RUNNING, owner=owner, silent_seconds=3.2, live=figures)),
        Look(jobs[3], Standing(State.RUNNING, silent_seconds=0.0)),
        Look(jobs[4], Standing(State.FAILED, errors=["a", "RuntimeError: no"])),
        Look(jobs[5], Standing(State.WAITING)),
    ]
    shown = text(Status(looks, 12.34, 3661.0))
    assert shown.splitlines()[:4] == [
        "6 runs: 1 done, 1 failed, 2 running, 1 abandoned, 1 waiting",
        "runs per hour: 12.3; time left: 1:01:01",
        "waiting with a saved state, from which they will resume: 1",
        "",
    ]
    since = time.strftime("%H:%M:%S", time.localtime(owner.since))
    long_ago = time.strftime("%Y-%m-%d %H:%M", time.localtime(0))
    assert rows(shown)[6:9] == [
        f"running {jobs[2].name} 7@node {since} 0:00:03 ago 1200/5001 310.4 2.4 0:01:01",
        f"running {jobs[3].name} - - 0:00:00 ago - - - -",
        f"abandoned {jobs[1].name} 8@gone {long_ago} 1:06:40 ago - - - -",
    ]
    assert rows(shown)[10] == "Dataset Algorithm Done Failed Running Abandoned Waiting % done"
    assert rows(shown)[12:14] == [
        "Debug28 ERM 1 0 1 1 0 33",
        "Debug28 IRM 0 1 1 0 1 0",
    ]
    assert shown.splitlines()[14:] == ["", f"failed: {jobs[4]}", "    a", "    RuntimeError: no"]


def test_what_is_not_known_is_a_dash(tmp_path):
    shown = text(Status([Look(job, Standing(State.WAITING, begun=False)) for job in jobs_of(tmp_path)], None, None))
    assert rows(shown)[1] == "runs per hour: -; time left: -"
    assert "begun" not in shown
    assert "Process" not in shown


def test_equal_errors_are_shown_once(tmp_path):
    jobs = jobs_of(tmp_path, n_hparams=20)
    looks = [Look(job, Standing(State.FAILED, errors=["  in x", "one"])) for job in jobs[:3]]
    looks += [Look(job, Standing(State.FAILED, errors=[f"  in {i}", "often"])) for i, job in enumerate(jobs[3:40])]
    looks += [Look(job, Standing(State.FAILED, errors=[f"rare {i}"])) for i, job in enumerate(jobs[40:55])]
    lines = text(Status(looks, None, None)).splitlines()
    begin = lines.index(f"failed: 37 runs, such as {jobs[3]}")
    assert lines[begin + 1 : begin + 6] == [
        "      in 0",
        "    often",
        f"failed: 3 runs, such as {jobs[0]}",
        "      in x",
        "    one",
    ]
    assert lines[begin + 6 : begin + 8] == [f"failed: {jobs[40]}", "    rare 0"]
    assert sum("rare" in line for line in lines) == 8
    assert lines[-1] == "7 more failed with other errors: --format json shows them"


def test_names_and_errors_are_shown_as_they_are(tmp_path):
    (job, *_) = jobs_of(tmp_path)
    long = "数据 :smile: [b]é" + "x" * 300
    job = replace(job, arguments=replace(job.arguments, dataset=f"folder:/{long}", algorithm="módulo:Clase[0]"))
    error = "\x1b[31mValueError\x1b[0m: [red]" + "y" * 2000
    running = Look(job, Standing(State.RUNNING, owner=Owner("knöten", 1, 0.0), silent_seconds=0.0))
    shown = text(Status([Look(job, Standing(State.FAILED, errors=[error])), running], None, None))
    assert "\x1b" not in shown
    assert "    ValueError: [red]" + "y" * 2000 in shown.splitlines()
    assert len([line for line in shown.splitlines() if f"folder:/{long}" in line and "módulo:Clase[0]" in line]) == 3
    assert "1@knöten" in shown


@pytest.fixture
def watched(tmp_path):
    """A sweep, and what watches it as a user does."""
    folder = tmp_path / "sweep"
    jobs = jobs_of(folder, steps=3, hparams='{"batch_size": 4}', skip_model_save=True)
    write(jobs)
    command = [sys.executable, "-m", "dg_batchformer", "sweep", "status", "--watch", "--output_dir", str(folder)]
    started = []

    def start(**given):
        # A shell that runs a command in the background has it ignore Ctrl-C.
        reset = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        reset += "os.execv(sys.argv[1], sys.argv[1:])"
        started.append(subprocess.Popen([sys.executable, "-c", reset, *command], **given))
        return started[-1]

    yield jobs, start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_watched_sweep_is_followed_to_its_end(watched):
    jobs, start = watched
    watching = start(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first = watching.stdout.readline()
    assert first == "3 runs: 0 done, 0 failed, 0 running, 0 abandoned, 3 waiting\n"
    run_at([None], jobs, Local(), lambda ended: None)
    said = watching.communicate(timeout=120)[0]
    assert watching.returncode == 0
    assert "\x1b" not in said
    summaries = re.findall("^3 runs: .*", first + said, re.MULTILINE)
    assert summaries[-1] == "3 runs: 3 done, 0 failed, 0 running, 0 abandoned, 0 waiting"
    assert len(set(summaries)) == len(summaries)  # printed when they have changed


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_ctrl_c_leaves_the_last_picture_in_the_terminal(watched):
    _, start = watched
    terminal, theirs = os.openpty()
    watching = start(stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "150"})
    os.close(theirs)
    said = b""
    while said.count(b"3 waiting") < 2:  # drawn, and drawn again
        said += os.read(terminal, 65536)
    watching.send_signal(signal.SIGINT)
    said += drained(terminal)
    assert watching.wait(timeout=60) == 0
    assert b"\x1b[?25l" in said
    assert said.rindex(b"\x1b[?25h") > said.rindex(b"3 waiting")  # the cursor is back
    assert b"Traceback" not in said


def drained(terminal):
    said = b""
    while True:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # nobody has it open any more
            return said
        if not more:
            return said
        said += more


def test_a_look_that_finds_nothing_left_is_the_last(tmp_path, monkeypatch, capsys):
    jobs = jobs_of(tmp_path)
    write(jobs)
    slept = []

    def work(seconds):
        slept.append(seconds)
        (jobs[len(slept) - 1].folder / ("done" if len(slept) < 3 else "failed")).touch()

    monkeypatch.setattr(status.time, "sleep", work)
    status.follow(lambda: jobs)
    assert re.findall(r"(\d) waiting\n", capsys.readouterr().out) == ["3", "2", "1", "0"]
    assert slept == [status.WATCH_SECONDS] * 3
