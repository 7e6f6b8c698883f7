"""The slurm launcher: what it submits, and, on a cluster, what becomes of it."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from factories import assert_same, jobs_of

from dg_batchformer.errors import InputError
from dg_batchformer.jobs.folder import find, write
from dg_batchformer.jobs.launchers.local import Local
from dg_batchformer.jobs.launchers.slurm import Slurm, minutes
from dg_batchformer.training.trainer import run

LONG_ENOUGH = 120


def sweep(folder, **given):
    usual = {"steps": 400, "checkpoint_freq": 200, "hparams": '{"batch_size": 8}'}
    return jobs_of(folder, ["RotatedDigits"], **{**usual, **given})


def submit(jobs, **given):
    Slurm(**given).check(jobs)
    Slurm(**given).run(jobs)


# What needs no cluster: commands of its name stand for SLURM's.


@pytest.fixture
def no_cluster(tmp_path, monkeypatch):
    """Commands that take whatever they are given."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "srun", "squeue", "scontrol"):
        (commands / name).write_text("#!/bin/sh\nexit 0\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    return commands


def test_a_dry_run_prints_the_script_and_writes_nothing(tmp_path, no_cluster, capsys):
    parameters = {"partition": "gpu", "time": "2-12:30:00", "mem": "16GB", "cpus_per_task": 4, "gpus_per_node": 1}
    Slurm(n_workers=3, slurm=parameters).preview(sweep(tmp_path / "sweep"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "#!/bin/bash"
    expected = ["array=0-2%3", "partition=gpu", "time=3630", "mem=16GB", "cpus-per-task=4", "gpus-per-node=1"]
    expected += ["requeue", "signal=USR2@90", "job-name=dg-batchformer", "open-mode=append"]
    assert {f"#SBATCH --{one}" for one in expected} < set(lines)
    assert f"logs in {tmp_path}/sweep/slurm" in lines[-1]
    assert not (tmp_path / "sweep").exists()


def test_a_single_task_is_no_array(tmp_path, no_cluster, capsys):
    Slurm(n_workers=1).preview(sweep(tmp_path / "sweep"))
    assert "--array" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"partitions": "gpu"}, "unknown SLURM parameter 'partitions': did you mean partition"),
        ({"nodes": 2}, "SLURM parameter 'nodes' is set by the launcher: omit it"),
        ({"time": "soon"}, "SLURM parameter time is 'soon': expected minutes, hours:minutes:seconds or days-hours"),
        ({"time": 0}, "SLURM parameter time is 0: expected minutes"),
        ({"time": 1}, r"SLURM parameter time is 1: expected more than the 90 s \(signal_delay_s\)"),
        ({"signal_delay_s": "-1"}, "SLURM parameter signal_delay_s is '-1': expected a whole number, at least 1"),
        ({"array_parallelism": "few"}, "SLURM parameter array_parallelism is 'few': expected a whole number"),
        ({"tiem": 5, "part": "gpu"}, "(?s)'tiem'.*'part'"),
    ],
)
def test_wrong_parameters(tmp_path, no_cluster, parameters, message):
    with pytest.raises(InputError, match=message):
        submit(sweep(tmp_path / "sweep"), slurm=parameters)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("time", "expected"),
    [(90, 90), ("90", 90), ("90:30", 90), ("1:30:00", 90), ("0-1", 60), ("1-1:30", 1530), ("1-1:30:59", 1530)],
)
def test_minutes(time, expected):
    assert minutes(time) == expected


def test_what_sbatch_says_is_said(tmp_path, no_cluster):
    (no_cluster / "sbatch").write_text("#!/bin/sh\necho 'allocation failure: Invalid account' >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"sbatch rejects .* \(allocation failure: Invalid account\)"):
        submit(sweep(tmp_path / "sweep"), slurm={"account": "nobody"})
    assert not (tmp_path / "sweep").exists()


def test_nodes_that_are_down_for_a_while_are_waited_for(tmp_path, no_cluster):
    said = "allocation failure: Requested node configuration is not available"
    (no_cluster / "sbatch").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    Slurm().check(sweep(tmp_path / "sweep"))


def test_a_machine_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no sbatch on this machine: expected one that submits to a SLURM cluster"):
        submit(sweep(tmp_path / "sweep"))


def test_without_submitit(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"needs submitit: pip install dg-batchformer\[slurm\]"):
        submit(sweep(tmp_path / "sweep"))


def test_a_folder_that_slurm_would_misread(tmp_path, no_cluster):
    with pytest.raises(InputError, match="50%a/slurm has a % in its name"):
        submit(sweep(tmp_path / "50%a"))


def test_tasks_begin_at_different_runs(tmp_path):
    jobs = sweep(tmp_path / "sweep", n_trials=2)
    names = [job.folder.name for job in jobs]
    tasks = Slurm(n_workers=3, retries=2, slurm={"mem": "16GB"}).tasks(jobs)
    assert [task.runs[0] for task in tasks] == [names[0], names[2], names[5]]
    assert all(sorted(task.runs) == sorted(names) for task in tasks)
    assert [Local(**task.options) for task in tasks] == [Local(retries=2)] * 3
    assert len(Slurm().tasks(jobs)) == 8
    many = [replace(jobs[0], arguments=replace(jobs[0].arguments, output_dir=f"sweep/{i}")) for i in range(300)]
    assert len(Slurm().tasks(many)) == 100


# What needs one.


def no_cluster_because():
    if shutil.which("sinfo") is None:
        return "needs SLURM: no sinfo here"
    try:
        said = subprocess.run(["sinfo", "--noheader", "--format=%T"], text=True, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "needs a SLURM cluster that runs: sinfo does not answer"
    running = any(word in said.stdout for word in ("idle", "mixed", "allocated"))
    return "" if running else "needs a SLURM cluster that runs (.ci/slurm starts one)"


@pytest.fixture(scope="module")
def cluster():
    reason = no_cluster_because()
    if reason:
        pytest.skip(reason)


def said_by(*command):
    """What a command of SLURM's prints."""
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True, timeout=60).stdout


class Array:
    """A sweep that was submitted as tasks of one core."""

    def __init__(self, jobs, n_tasks, capsys):
        self.jobs, self.folder = jobs, jobs[0].sweep_dir
        self.launcher = Slurm(n_workers=n_tasks, slurm={"time": 10, "mem": "2GB", "signal_delay_s": 30})
        write(jobs)
        self.launcher.check(jobs)
        self.launcher.run(jobs)
        self.printed = capsys.readouterr().out
        self.id = self.printed.split("SLURM job ")[1].split(",")[0]

    @property
    def is_queued(self):
        return self.id in said_by("squeue", "--noheader", "--format=%A").split()

    @property
    def log(self):
        return "".join(path.read_text() for path in sorted((self.folder / "slurm").glob("*_log.*")))

    def wait_for(self, holds):
        deadline = time.monotonic() + LONG_ENOUGH
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert holds(), self.log

    def wait_to_train(self):
        """Waits until its first run takes steps."""
        log = self.jobs[0].folder / "out.txt"
        self.wait_for(lambda: log.exists() and "\n     0 " in log.read_text())

    def end(self):
        """Waits until it has left the queue."""
        self.wait_for(lambda: not self.is_queued)


@pytest.fixture
def submitted(cluster, capsys):
    """Submits sweeps, of which nothing is left in the queue afterwards."""
    arrays = []

    def submit(jobs, n_tasks):
        arrays.append(Array(jobs, n_tasks, capsys))
        return arrays[-1]

    yield submit
    for array in arrays:
        subprocess.run(["scancel", array.id], check=True)


@pytest.mark.slurm
def test_an_array_runs_a_sweep(tmp_path, submitted, capsys):
    array = submitted(sweep(tmp_path / "it's été 日本", steps=4, checkpoint_freq=2), 2)
    array.launcher.preview(array.jobs)
    preview = capsys.readouterr().out.splitlines()
    array.end()
    assert [job.folder.marked for job in find(array.folder)] == ["done"] * 4, array.log
    begun = [(job.folder / "out.txt").read_text().count("test environments [") for job in array.jobs]
    assert begun == [1] * 4
    assert array.printed.startswith(f"submitted 2 task(s) as SLURM job {array.id}, logs in {array.folder}/slurm\n")
    submission = (array.folder / "slurm" / f"{array.id}_submission.sh").read_text().splitlines()
    logs = {line for line in submission if line.startswith(("#SBATCH --output", "#SBATCH --error"))}
    assert {line for line in submission if line.startswith("#SBATCH")} - logs == set(preview[1:-1])


@pytest.mark.slurm
def test_what_this_cluster_does_not_have(tmp_path, cluster):
    with pytest.raises(InputError, match=r"sbatch rejects .*Invalid partition.*: given {'partition': 'nowhere'}"):
        submit(sweep(tmp_path / "sweep"), slurm={"partition": "nowhere"})
    with pytest.raises(InputError, match=r"sbatch rejects .*Invalid job array"):
        submit(sweep(tmp_path / "sweep", n_trials=300, steps=1, checkpoint_freq=1), n_workers=1100)
    assert not (tmp_path / "sweep").exists()


LENGTH = {"steps": 1500, "checkpoint_freq": 750}


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    """The folder of a run that nothing interrupted, on one core as the others."""
    [job, *_] = sweep(tmp_path_factory.mktemp("undisturbed"), **LENGTH)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(job.arguments, echo=False)
    finally:
        torch.set_num_threads(threads)
    return job.folder.path


DISTURBANCES = {
    "the end of its time": "scancel --signal=USR2 {id}",
    "a requeue": "scontrol requeue {id}",
    "preemption with a while of grace": "sbatch --partition=urgent --exclusive --output=/dev/null --wrap=true",
}


@pytest.mark.slurm
@pytest.mark.parametrize("what", DISTURBANCES)
def test_a_requeued_task_goes_on(tmp_path, submitted, undisturbed, what):
    """A time limit sends the first one's signal, at SLURM's grain of minutes."""
    if "urgent" in DISTURBANCES[what] and "urgent" not in said_by("sinfo", "--noheader", "--format=%R").split():
        pytest.skip("needs a partition `urgent` that preempts the usual one (.ci/slurm has it)")
    [job, *_] = sweep(tmp_path / "sweep", **LENGTH)
    array = submitted([job], 1)
    array.wait_to_train()
    said_by(*DISTURBANCES[what].format(id=array.id).split())
    array.end()
    assert job.folder.is_done, array.log
    assert "resuming after" in (job.folder / "out.txt").read_text()
    assert_same(undisturbed, job.folder.path)


@pytest.mark.slurm
def test_a_cancelled_task_saves_and_stays_away(tmp_path, submitted, undisturbed):
    [job, *_] = sweep(tmp_path / "sweep", **LENGTH)
    array = submitted([job], 1)
    array.wait_to_train()
    said_by("scancel", array.id)
    array.end()
    assert not job.folder.is_done
    assert job.folder.can_be_claimed
    again = submitted([job], 1)
    again.end()
    assert "resuming after" in (job.folder / "out.txt").read_text()
    assert_same(undisturbed, job.folder.path)
