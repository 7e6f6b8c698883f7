"""What `sweep status` shows of a sweep: at one look, and while it is watched."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from dg_batchformer.jobs import status_view
from dg_batchformer.jobs.folder import write
from dg_batchformer.jobs.local import run_at
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Sweep, plan
from dg_batchformer.jobs.states import Standing
from dg_batchformer.jobs.status import Status
from dg_batchformer.jobs.status_view import text
from dg_batchformer.runs.claim import Owner
from dg_batchformer.runs.live import Live


def sweep(folder, **given):
    return plan(Sweep(["Debug28"], str(folder), **{"algorithms": ["ERM"], "n_hparams": 1, "n_trials": 1, **given}))


def rows(shown):
    """Lines with one blank between words."""
    return [" ".join(line.split()) for line in shown.splitlines()]


def test_a_sweep_in_all_states(tmp_path):
    jobs = sweep(tmp_path, algorithms=["ERM", "IRM"])
    owner = Owner("node", 7, since=time.time())
    figures = Live(1200, 5001, 310.44, 2.36, 61.0)
    standings = [
        Standing(jobs[0], "done"),
        Standing(jobs[1], "abandoned", owner=Owner("gone", 8, since=0.0), silent_seconds=4000.0),
        Standing(jobs[2], "running", owner=owner, silent_seconds=3.2, live=figures),
        Standing(jobs[3], "running", silent_seconds=0.0),
        Standing(jobs[4], "failed", errors=["a", "RuntimeError: no"]),
        Standing(jobs[5], "waiting"),
    ]
    shown = text(Status(standings, 12.34, 3661.0))
    assert shown.splitlines()[:4] == [
        "6 runs: 1 done, 1 failed, 2 running, 1 abandoned, 1 waiting",
        "runs per hour: 12.3; time left: 1:01:01",
        "begun, and waiting to go on from the last state: 1",
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
    shown = text(Status([Standing(job, "waiting", begun=False) for job in sweep(tmp_path)], None, None))
    assert rows(shown)[1] == "runs per hour: -; time left: -"
    assert "begun" not in shown
    assert "Process" not in shown


def test_equal_errors_are_shown_once(tmp_path):
    jobs = sweep(tmp_path, n_hparams=20)
    standings = [Standing(job, "failed", errors=["  in x", "one"]) for job in jobs[:3]]
    standings += [Standing(job, "failed", errors=[f"  in {i}", "often"]) for i, job in enumerate(jobs[3:40])]
    standings += [Standing(job, "failed", errors=[f"rare {i}"]) for i, job in enumerate(jobs[40:55])]
    lines = text(Status(standings, None, None)).splitlines()
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
    assert lines[-1] == "7 more failed with other errors: --format json has the lines of each"


def test_names_and_errors_are_shown_as_they_are(tmp_path):
    (job, *_) = sweep(tmp_path)
    long = "数据 :smile: [b]é" + "x" * 300
    arguments = {**vars(job.arguments), "dataset": f"folder:/{long}", "algorithm": "módulo:Clase[0]"}
    job = type(job)(type(job.arguments)(**arguments))
    error = "\x1b[31mValueError\x1b[0m: [red]" + "y" * 2000
    running = Standing(job, "running", owner=Owner("knöten", 1, 0.0), silent_seconds=0.0)
    shown = text(Status([Standing(job, "failed", errors=[error]), running], None, None))
    assert "\x1b" not in shown
    assert "    ValueError: [red]" + "y" * 2000 in shown.splitlines()
    assert len([line for line in shown.splitlines() if f"folder:/{long}" in line and "módulo:Clase[0]" in line]) == 3
    assert "1@knöten" in shown


@pytest.fixture
def watched(tmp_path):
    """A sweep, and what watches it as a user does."""
    folder = tmp_path / "sweep"
    jobs = sweep(folder, steps=3, hparams='{"batch_size": 4}', skip_model_save=True)
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


def test_a_watched_sweep_is_followed_to_its_end(watched):
    jobs, start = watched
    watching = start(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first = watching.stdout.readline()
    assert first == "3 runs: 0 done, 0 failed, 0 running, 0 abandoned, 3 waiting\n"
    run_at([None], jobs, Options(), lambda ended: None)
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


def test_a_look_that_finds_nothing_left_is_the_last(tmp_path, monkeypatch):
    jobs = sweep(tmp_path)
    write(jobs)
    slept = []

    def work(seconds):
        slept.append(seconds)
        (jobs[len(slept) - 1].folder / ("done" if len(slept) < 3 else "failed")).touch()

    monkeypatch.setattr(status_view.time, "sleep", work)
    counts = [[one.state for one in status.standings].count("waiting") for status in status_view.looks(lambda: jobs)]
    assert counts == [3, 2, 1, 0]
    assert slept == [status_view.WATCH_SECONDS] * 3
