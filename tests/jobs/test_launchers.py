"""Worker processes: they share out the runs, and one that fails or dies costs only its run."""

import functools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import image_tree

from dg_batchformer.data.benchmarks import load_dataset
from dg_batchformer.data.resident import resident_images
from dg_batchformer.errors import InputError
from dg_batchformer.jobs import launchers
from dg_batchformer.jobs.folder import write
from dg_batchformer.jobs.launchers import default_workers, find_launcher
from dg_batchformer.jobs.plan import Sweep, plan
from dg_batchformer.jobs.status import last_lines, measured_seconds, report, summary

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
        time.sleep(600)

class Threads(ERM):
    def update(self, minibatches, unlabeled=None):
        return {"loss": float(torch.get_num_threads()), "process": float(os.getpid())}
"""


@pytest.fixture
def trouble(tmp_path, monkeypatch):
    (tmp_path / "trouble_for_test.py").write_text(TROUBLE)
    monkeypatch.syspath_prepend(tmp_path)


def test_local_runs_all_and_survives_failures(tmp_path, trouble, monkeypatch):
    monkeypatch.setattr("dg_batchformer.machine.available_cores", lambda: 2)
    algorithms = ["trouble_for_test:Fails", "trouble_for_test:Dies", "trouble_for_test:Threads"]
    jobs = plan(
        Sweep(
            ["RotatedDigits"],
            str(tmp_path / "sweep"),
            algorithms,
            n_hparams=1,
            n_trials=1,
            steps=2,
            hparams='{"batch_size": 4}',
        )
    )
    write(jobs)
    ended = []
    find_launcher("local")(jobs, 2, ended.append)
    assert len(ended) == len(jobs) == 12
    by_algorithm = {name: [one for one in ended if one.job.arguments.algorithm == name] for name in algorithms}
    fails, dies, fine = by_algorithm.values()
    assert {one.error for one in fails} == {"RuntimeError: no luck"}
    assert {one.error for one in dies} == {"its process ended with code 9 (out of memory, or killed?)"}
    assert {one.error for one in fine} == {None}
    assert {one.job.state for one in fine} == {"done"}
    assert {one.job.state for one in (*fails, *dies)} == {"failed"}
    assert summary(jobs) == "12 runs: 4 done, 8 failed, 0 incomplete, 0 not launched"
    said = report(jobs)
    assert "RotatedDigits trouble_for_test:Fails: 4 failed" in said
    assert said.count("RuntimeError: no luck") == 4
    assert said.count("its process ended with code 9") == 4

    from dg_batchformer.training.records import read

    records = [read(one.job.folder / "results.jsonl")[0][-1] for one in fine]
    # Two workers share two cores; four runs needed no more than the two that were there or replaced dead ones.
    assert {record["loss"] for record in records} == {1.0}
    assert len({record["process"] for record in records}) <= 2
    assert 0 < measured_seconds(jobs)["RotatedDigits"] < 60


def test_dummy_prints_the_commands(tmp_path, capsys):
    jobs = plan(Sweep(["RotatedDigits"], str(tmp_path / "sweep"), ["ERM"], n_hparams=1, n_trials=1))
    find_launcher("dummy")(jobs, 1, lambda ended: pytest.fail("ran"))
    assert capsys.readouterr().out.splitlines() == [job.command for job in jobs]
    assert not (tmp_path / "sweep").exists()


def test_unknown_launcher():
    with pytest.raises(InputError, match="unknown launcher 'locl': did you mean local"):
        find_launcher("locl")


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
    jobs = plan(Sweep([dataset], str(tmp_path), ["ERM"], n_hparams=2, n_trials=1, hparams=hparams))
    assert default_workers(jobs, 1) == workers
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [default_workers(jobs, n) for n in (1, 3)] == [1, 3]


def test_the_report_shows_where_an_unfinished_run_is(tmp_path):
    jobs = plan(Sweep(["RotatedDigits"], str(tmp_path / "sweep"), ["ERM"], n_hparams=1, n_trials=1))
    write(jobs)
    (jobs[1].folder / "out.txt").write_text("header\nstep 3 of 9: loss 1.0\n")
    assert report(jobs).splitlines() == [
        "4 runs: 0 done, 0 failed, 1 incomplete, 3 not launched",
        "  RotatedDigits ERM: 1 incomplete, 3 not launched",
        f"incomplete: {jobs[1]}",
        "    header",
        "    step 3 of 9: loss 1.0",
    ]


def test_last_lines(tmp_path):
    assert last_lines(tmp_path / "missing") == []
    (tmp_path / "log").write_text("one\n\ntwo\nthree\nfour\n\n")
    assert last_lines(tmp_path / "log") == ["two", "three", "four"]


def alive(pid):
    # A zombie, whose parent has not asked for its status yet, is dead too.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see processes")
def test_workers_end_with_a_launcher_that_was_killed(tmp_path, trouble):
    """Or they would go on beside those of the next launch, in the same folders."""
    jobs = plan(Sweep(["RotatedDigits"], str(tmp_path / "sweep"), ["trouble_for_test:Sleeps"], n_hparams=1, n_trials=1))
    write(jobs)
    code = (
        "from pathlib import Path; from dg_batchformer.jobs.launchers import local; "
        "from dg_batchformer.jobs.folder import find\n"
        f"if __name__ == '__main__': local(find(Path({str(tmp_path / 'sweep')!r})), 2, print)"
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


def test_workers_share_one_copy_of_the_images(tmp_path, monkeypatch):
    """As on a GPU, with the copy in shared memory instead."""
    import torch.multiprocessing  # noqa: F401

    dataset = f"folder:{image_tree(tmp_path / 'mine')}"
    given = {"steps": 1, "n_hparams": 1, "n_trials": 1, "skip_model_save": True}
    hparams = '{"batch_size": 2, "resnet18": true, "weights": null}'
    jobs = plan(Sweep([dataset], str(tmp_path / "sweep"), ["ERM"], hparams=hparams, **given))
    made = []

    def black(arguments):
        """Not the dataset's own images, so that it shows whose were read."""
        made.append(resident_images(load_dataset(**dict(arguments)), "cpu"))
        made[-1].images.zero_()
        return (made[-1],)

    monkeypatch.setattr(launchers, "sharing", lambda n_workers: functools.cache(black))
    write(jobs)
    launchers.local(jobs, 2, lambda ended: None)
    assert len(made) == 1
    assert [job.state for job in jobs] == ["done"] * 3
    accuracies = [json.loads((job.folder / "results.jsonl").read_text()) for job in jobs]
    # Of images that are all the same, the two classes of each environment get one prediction.
    assert all(record[f"env{i}_in_acc"] * 7 in (3, 4) for record in accuracies for i in range(3))
