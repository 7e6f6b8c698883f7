"""Several launchers on one sweep, and launchers that die: every run is run once, and the table is the same."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dg_batchformer.jobs.folder import find
from dg_batchformer.selection import collect
from dg_batchformer.selection.formats.csv import cells
from dg_batchformer.selection.report import report

SWEEP = ["--datasets", "Debug28", "--algorithms", "ERM", "SWAD_BatchFormer", "--n_hparams", "1", "--n_trials", "2"]
SWEEP += ["--steps", "12", "--checkpoint_freq", "4", "--checkpoint_minutes", "0.001", "--n_workers", "2"]
SWEEP += ["--hparams", '{"batch_size": 4}', "--skip_model_save", "--skip_confirmation"]
N_RUNS = 12

pytestmark = pytest.mark.slow


def launch(folder):
    """A launcher as a user starts it, in a process group of its own."""
    command = [sys.executable, "-m", "dg_batchformer", "sweep", "launch", *SWEEP, "--output_dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def table(folder):
    return cells(report(collect([folder])))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "sweep"
    printed = launch(folder).communicate(timeout=300)[0]
    assert f"{N_RUNS} runs: {N_RUNS} done" in printed, printed
    return table(folder)


def test_two_launchers_run_each_run_once(tmp_path, undisturbed):
    launchers = [launch(tmp_path / "sweep") for _ in range(2)]
    printed = [one.communicate(timeout=300)[0] for one in launchers]
    assert [one.returncode for one in launchers] == [0, 0], printed
    assert all(f"{N_RUNS} runs: {N_RUNS} done, 0 failed, 0 running" in one for one in printed)
    jobs = find(tmp_path / "sweep")
    begun = [(job.folder / "out.txt").read_text().count("test environments [") for job in jobs]
    assert begun == [1] * N_RUNS
    assert table(tmp_path / "sweep") == undisturbed


def test_a_sweep_whose_launchers_are_killed_ends_the_same(tmp_path, undisturbed):
    for _ in range(2):
        process = launch(tmp_path / "sweep")
        for line in process.stdout:
            if "done in" in line:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        time.sleep(1)  # for its workers, which end when it does
    states = [job.folder.marked for job in find(tmp_path / "sweep")]
    assert 0 < states.count("done") < N_RUNS
    printed = launch(tmp_path / "sweep").communicate(timeout=300)[0]
    assert f"{N_RUNS} runs: {N_RUNS} done, 0 failed, 0 running" in printed, printed
    assert table(tmp_path / "sweep") == undisturbed
    logs = [(job.folder / "out.txt").read_text() for job in find(tmp_path / "sweep")]
    assert any("resuming after" in log for log in logs)
    for job in find(tmp_path / "sweep"):
        steps = [json.loads(line)["step"] for line in (job.folder / "results.jsonl").read_text().splitlines()]
        assert steps in ([0, 4, 8, 11], [11])
    assert not [
        name for _, _, names in os.walk(tmp_path / "sweep") for name in names if name.startswith(("resume", "claim"))
    ]
