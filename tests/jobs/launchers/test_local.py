"""Worker processes: they share out the runs, and one that fails or dies costs only its run."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from factories import image_tree, jobs_of

from dg_batchformer.data import load_dataset
from dg_batchformer.data.resident import resident_images
from dg_batchformer.errors import InputError
from dg_batchformer.jobs.folder import write
from dg_batchformer.jobs.launchers import local
from dg_batchformer.jobs.launchers.local import Local, MultiGpu, Queue
from dg_batchformer.jobs.status import Status, finished_runs, look, mean_seconds, summary, text
from dg_batchformer.jobs.workers import Worker, mark_unless_taken, stop, warm_up

TROUBLE = """
import os
import torch
from dg_batchformer.algorithms import ERM

class Fails(ERM):
    def update(self, minibatches, unlabeled=None):
        raise RuntimeError("no luck")

class Dies(ERM):
    def update(self, minibatches, unlabeled=None):
        os._exit(9)

class Sleeps(ERM):
    def update(self, minibatches, unlabeled=None):
        import pathlib, time
        with open(pathlib.Path(__file__).parent / "workers", "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(1)
        return {"loss": 1.0}

class Once(ERM):
    def update(self, minibatches, unlabeled=None):
        import pathlib
        tried = pathlib.Path(__file__).parent / "tried"
        self.n = getattr(self, "n", 0) + 1
        if self.n == 2 and not tried.exists():
            tried.touch()
            raise RuntimeError("no luck yet")
        return super().update(minibatches)

class Diverges(ERM):
    def update(self, minibatches, unlabeled=None):
        return {"loss": float("nan")}

class Grabs(ERM):
    def update(self, minibatches, unlabeled=None):
        torch.empty(2**50)

class Slow(ERM):
    def update(self, minibatches, unlabeled=None):
        import time
        time.sleep(0.4)
        return super().update(minibatches)

class Stuck(ERM):
    def update(self, minibatches, unlabeled=None):
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        while True:
            pass

class Ends(ERM):
    def update(self, minibatches, unlabeled=None):
        import pathlib, time
        (pathlib.Path(__file__).parent / "ends").touch()
        time.sleep(3)
        return super().update(minibatches)

class Threads(ERM):
    def update(self, minibatches, unlabeled=None):
        return {"loss": float(torch.get_num_threads()), "process": float(os.getpid())}
"""


def run_local(jobs, launcher, report):
    local.run_at(launcher.places(jobs), jobs, launcher, report)


@pytest.fixture
def trouble(tmp_path, monkeypatch):
    (tmp_path / "trouble_for_test.py").write_text(TROUBLE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.slow
def test_local_runs_all_and_survives_failures(tmp_path, trouble, monkeypatch):
    monkeypatch.setattr("dg_batchformer.machine.available_cores", lambda: 2)
    algorithms = ["trouble_for_test:Fails", "trouble_for_test:Dies", "trouble_for_test:Threads"]
    jobs = jobs_of(tmp_path / "sweep", ["RotatedDigits"], algorithms, steps=2, hparams='{"batch_size": 4}')
    write(jobs)
    ended = []
    run_local(jobs, Local(n_workers=2), ended.append)
    assert len(ended) == len(jobs) == 12
    by_algorithm = {name: [one for one in ended if one.job.arguments.algorithm == name] for name in algorithms}
    fails, dies, fine = by_algorithm.values()
    assert {one.error for one in fails} == {"RuntimeError: no luck"}
    assert {one.error for one in dies} == {"its process ended with code 9"}
    assert {one.error for one in fine} == {None}
    assert {one.job.folder.marked for one in fine} == {"done"}
    assert {one.job.folder.marked for one in (*fails, *dies)} == {"failed"}
    assert summary(look(jobs)) == "12 runs: 4 done, 8 failed, 0 running, 0 abandoned, 0 waiting"
    said = text(Status.from_jobs(jobs))
    assert said.count("\nfailed: 4 runs, such as RotatedDigits trouble_for_test:") == 2
    assert said.count("\n    RuntimeError: no luck\n") == 1
    assert said.count("\n    its process ended with code 9") == 1

    from dg_batchformer.runs.records import read

    records = [read(one.job.folder / "results.jsonl")[0][-1] for one in fine]
    # Two workers share two cores; four runs needed no more than the two that were there or replaced dead ones.
    assert {one.about.record["loss"] for one in records} == {1.0}
    assert len({one.about.record["process"] for one in records}) <= 2
    assert 0 < mean_seconds(finished_runs(jobs))["RotatedDigits"] < 60


def launched(tmp_path, algorithms, steps=4, **options):
    """Runs a small sweep with one environment left out; returns the tries as they ended."""
    hparams = '{"batch_size": 4}'
    jobs = jobs_of(tmp_path / "sweep", algorithms=algorithms, steps=steps, hparams=hparams)
    jobs = [job for job in jobs if job.arguments.test_envs == [0]]
    write(jobs)
    ended = []
    run_local(jobs, Local(n_workers=1, **options), ended.append)
    return ended


@pytest.mark.slow
def test_what_failed_is_tried_again_and_what_lacks_memory_costs_no_other(tmp_path, trouble):
    names = [f"trouble_for_test:{name}" for name in ("Once", "Diverges", "Grabs", "Threads")]
    ended = launched(tmp_path, names, retries=1)
    said = [(one.job.arguments.algorithm.partition(":")[2], one.again, one.error) for one in ended]
    assert [one[:2] for one in said] == [
        ("Once", True),
        ("Diverges", False),
        ("Grabs", True),
        ("Threads", False),
        ("Once", False),
        ("Grabs", False),
    ]
    errors = [one[2] for one in said]
    assert errors[0] == "RuntimeError: no luck yet"
    assert errors[1].startswith("DivergedError: a value at step 0 ")
    assert errors[2] == errors[5]
    assert errors[2].startswith("out of memory (RuntimeError: ")
    assert errors[3] is errors[4] is None
    assert [one.job.folder.marked for one in ended[3:]] == ["done", "done", "failed"]


@pytest.mark.slow
def test_a_run_that_lasts_too_long_is_saved_and_the_next_try_goes_on(tmp_path, trouble):
    tries = launched(tmp_path, ["trouble_for_test:Slow"], steps=12, retries=20, timeout=2 / 60)
    assert len(tries) > 1
    assert {one.error for one in tries[:-1]} == {
        "took longer than --timeout (0.0333333 minutes); a retry resumes from there"
    }
    assert tries[-1].error is None
    folder = tries[0].job.folder
    assert tries[0].job.folder.marked == "done"
    assert (folder / "out.txt").read_text().count("resuming after") == len(tries) - 1
    assert "took longer than --timeout (0.0" in (folder / "err.txt").read_text()


@pytest.mark.slow
def test_a_run_that_does_not_leave_is_killed(tmp_path, trouble, monkeypatch):
    monkeypatch.setattr("dg_batchformer.jobs.workers.LEAVE_SECONDS", 1)
    (stuck,) = launched(tmp_path, ["trouble_for_test:Stuck"], timeout=1 / 60)
    assert stuck.error.startswith("took longer than --timeout (0.0")
    assert stuck.job.folder.marked == "failed"


@pytest.mark.slow
def test_a_full_disk_and_a_folder_that_allows_no_writing_cost_their_runs_only(tmp_path, trouble):
    """The runs have nowhere to write that, and the launcher says it all the same."""
    hparams = '{"batch_size": 4}'
    jobs = jobs_of(tmp_path / "sweep", steps=2, hparams=hparams)
    write(jobs)
    full, barred, fine = (job.folder.path for job in jobs)
    with mounted(full, "size=16k"), mounted(barred, "ro"):
        with contextlib.suppress(OSError):
            (full / "ballast").write_bytes(b"x" * 2**20)
        ended = []
        run_local(jobs, Local(n_workers=1), ended.append)
        errors = {one.job.folder.path: one.error for one in ended}
        assert errors[full].startswith("the disk is full (OSError: [Errno 28] No space left on device")
        assert errors[barred] == f"InputError: --output_dir {barred} is not writable: check the permissions of {barred}"
        assert errors[fine] is None


@pytest.mark.slow
def test_a_worker_whose_run_ends_when_it_is_asked_to_leave_keeps_nobody_waiting(tmp_path, trouble, monkeypatch):
    """Its signal was for a run that heeds it no more."""
    monkeypatch.setattr("dg_batchformer.jobs.workers.LEAVE_SECONDS", 1000)
    (job, *_) = jobs_of(tmp_path / "sweep", algorithms=["trouble_for_test:Ends"], steps=1)
    write([job])
    worker = Worker(1, lambda arguments, place: None, None)
    worker.give(job, "")
    deadline = time.monotonic() + 60
    while not (tmp_path / "ends").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    stop([worker])
    assert worker.process.exitcode == 0
    assert (job.folder / "claim-1.ended").exists() or job.folder.is_done


def test_a_run_that_another_has_is_not_marked_by_one_that_could_not_begin(tmp_path, trouble):
    (job, *_) = jobs_of(tmp_path / "sweep")
    write([job])
    mark_unless_taken(job, "no data here")
    assert job.folder.marked == "failed"
    (job.folder / "failed").unlink()
    with job.folder.claimed():
        mark_unless_taken(job, "no data here")
    assert job.folder.marked == "waiting"


def test_a_worker_that_has_just_begun_leaves_when_asked():
    warm_up()
    worker = Worker(1, lambda arguments, place: None, None)
    stop([worker])
    assert worker.process.exitcode == -signal.SIGTERM


@contextlib.contextmanager
def mounted(folder, options):
    """A file system of its own, which only root can make."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_launcher_that_is_asked_to_leave_has_its_runs_saved(tmp_path, trouble, signal_name):
    command = [sys.executable, "-m", "dg_batchformer", "sweep", "launch", "--output_dir", str(tmp_path / "sweep")]
    command += ["--datasets", "Debug28", "--algorithms", "trouble_for_test:Slow", "--n_hparams", "1", "--n_trials", "1"]
    command += ["--steps", "500", "--n_workers", "2", "--hparams", '{"batch_size": 4}', "--skip_confirmation"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    number = getattr(signal, signal_name)

    def heed():
        signal.signal(number, signal.SIG_DFL)  # also where these tests are run by what ignores it

    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment, preexec_fn=heed, **pipes) as launcher:
        try:
            deadline = time.monotonic() + 120
            while len(list(tmp_path.glob("sweep/*/results.jsonl"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            launcher.send_signal(number)
            _, said = launcher.communicate(timeout=60)
        finally:
            launcher.kill()
    assert launcher.returncode == 128 + number
    assert said == f"stopped by {signal_name}\n"
    assert len(list(tmp_path.glob("sweep/*/resume-*.pt"))) == 2
    assert len(list(tmp_path.glob("sweep/*/claim-1.ended"))) == 2
    assert not list(tmp_path.glob("sweep/*/failed"))


def test_nothing_is_waited_for_where_the_last_runs_ended_elsewhere(monkeypatch):
    monkeypatch.setattr(local, "wait", lambda connections, seconds: pytest.fail("waits for nothing"))
    local.wait_for_end(Queue([], Local(), lambda ended: None), {}, None)


@pytest.mark.parametrize(
    ("dataset", "cores", "hparams", "workers"),
    [
        ("RotatedDigits", 6, None, 6),
        ("PACS", 8, None, 2),
        ("PACS", 2, None, 1),
        ("PACS", 6, '{"freeze_backbone": true}', 6),
    ],
)
def test_workers_by_cores_and_size_of_the_inputs(tmp_path, monkeypatch, dataset, cores, hparams, workers):
    monkeypatch.setattr("dg_batchformer.machine.available_cores", lambda: cores)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    jobs = jobs_of(tmp_path, [dataset], n_hparams=2, hparams=hparams)
    assert Local().places(jobs) == [None] * workers
    assert Local(n_workers=50).places(jobs) == [None] * len(jobs)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [Local(jobs_per_gpu=n).places(jobs) for n in (1, 3)] == [[0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("launcher", "places"),
    [
        (MultiGpu(), [0, 1, 2]),
        (MultiGpu(gpus=(0, 2), jobs_per_gpu=3), [0, 2, 0, 2, 0, 2]),
        (MultiGpu(gpus=(2,)), [2]),
        (MultiGpu(jobs_per_gpu=9), [0, 1, 2, 0, 1, 2, 0, 1]),  # one for each run
    ],
)
def test_gpus_and_their_workers(tmp_path, monkeypatch, launcher, places):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    jobs = jobs_of(tmp_path, ["RotatedDigits"], n_hparams=2)
    assert launcher.places(jobs) == places


@pytest.mark.parametrize("gpus", [(0, 3), (-1,), (), (1, 1)])
def test_gpus_that_are_not_there_are_refused(monkeypatch, gpus):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    with pytest.raises(InputError, match="expected one or more of 0, 1, 2, each once"):
        MultiGpu(gpus=gpus).places([])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match="multi_gpu finds no GPU here"):
        MultiGpu(gpus=gpus).places([])


def alive(pid):
    # A zombie, whose parent has not asked for its status yet, is dead too.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see processes")
def test_workers_end_with_a_launcher_that_was_killed(tmp_path, trouble):
    """Or they would go on beside those of the next launch, in the same folders."""
    jobs = jobs_of(tmp_path / "sweep", ["RotatedDigits"], ["trouble_for_test:Sleeps"])
    write(jobs)
    code = (
        "from pathlib import Path; from dg_batchformer.jobs.launchers.local import Local, run_at; "
        "from dg_batchformer.jobs.folder import find\n"
        f"if __name__ == '__main__': run_at([None, None], find(Path({str(tmp_path / 'sweep')!r})), Local(), print)"
    )
    (tmp_path / "launch.py").write_text(code)
    launcher = subprocess.Popen([sys.executable, str(tmp_path / "launch.py")], cwd=tmp_path)
    try:
        workers = tmp_path / "workers"
        deadline = time.monotonic() + 120
        while not (workers.exists() and len(workers.read_text().split()) == 2) and time.monotonic() < deadline:
            time.sleep(0.1)
        pids = workers.read_text().split()
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
    finally:
        launcher.kill()
        launcher.wait()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)


@pytest.mark.slow
def test_workers_share_one_copy_of_the_images(tmp_path, monkeypatch):
    """As on a GPU, with the copy in shared memory instead."""
    import torch.multiprocessing  # noqa: F401

    dataset = f"folder:{image_tree(tmp_path / 'mine')}"
    hparams = '{"batch_size": 2, "resnet18": true, "weights": null}'
    jobs = jobs_of(tmp_path / "sweep", [dataset], steps=1, skip_model_save=True, hparams=hparams)
    made = []

    def black(arguments, place):
        """Not the dataset's own images, so that it shows whose were read."""
        made.append(resident_images(load_dataset(**arguments._asdict()), "cpu"))
        made[-1].images.zero_()
        return (made[-1],)

    monkeypatch.setattr(local, "sharing", lambda places: functools.cache(black))
    write(jobs)
    run_local(jobs, Local(n_workers=2), lambda ended: None)
    assert len(made) == 1
    assert [job.folder.marked for job in jobs] == ["done"] * 3
    accuracies = [json.loads((job.folder / "results.jsonl").read_text()) for job in jobs]
    # Of images that are all the same, the two classes of each environment get one prediction.
    assert all(record[f"env{i}_in_acc"] * 7 in (3, 4) for record in accuracies for i in range(3))
