"""What a sweep may be given that is wrong: one sentence says it, and nothing is lost."""

import json
import os
import time

import pytest
from factories import image_tree

from dg_batchformer import cli
from dg_batchformer.jobs.folder import find
from dg_batchformer.training.trainer import run

SMALL = ["--n_hparams", "1", "--n_trials", "1", "--steps", "2", "--n_workers", "1", "--skip_confirmation"]
HPARAMS = {"batch_size": 2, "resnet18": True, "weights": None}


def said(capsys, *argv):
    """The exit status of a command, and what it wrote as an error."""
    status = cli.main([str(word) for word in argv])
    return status, capsys.readouterr().err


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def sweep(tmp_path):
    """The command of a sweep whose runs are done, and its folder."""
    folder = tmp_path / "sweep"
    command = ["sweep", "launch", "--datasets", "Debug28", "--algorithms", "ERM", "--output_dir", folder, *SMALL]
    command += ["--hparams", '{"batch_size": 4}', "--skip_model_save"]
    assert cli.main([str(word) for word in command]) == 0
    return command, folder


def other_hparams(command, folder, monkeypatch):
    command[command.index("--hparams") + 1] = '{"batch_size": 8}'
    return "holds this sweep with other settings"


def other_version(command, folder, monkeypatch):
    begun = json.loads((folder / "sweep.json").read_text())
    begun |= {"format": 99, "versions": {**begun["versions"], "dg-batchformer": "9.9"}}
    (folder / "sweep.json").write_text(json.dumps(begun))
    return "was created by dg-batchformer 9.9 in sweep format 99"


def unknown_launcher(command, folder, monkeypatch):
    command += ["--command_launcher", "multi_cpu"]
    return "unknown launcher 'multi_cpu': did you mean multi_gpu?"


def unknown_gpu(command, folder, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    i = command.index("--n_workers")
    command[i : i + 2] = ["--command_launcher", "multi_gpu", "--gpus", "0,2", "--algorithms", "CORAL"]
    return "--gpus is '0,2': expected one or more of 0, 1, each once"


def record_of_another_run(command, folder, monkeypatch):
    one, other = (job.folder / "results.jsonl" for job in find(folder)[:2])
    one.write_bytes(other.read_bytes())
    return "holds a record of another run (ERM on Debug28, test_envs [1]"


def no_json_in_results(command, folder, monkeypatch):
    with (find(folder)[0].folder / "results.jsonl").open("a") as file:
        file.write("Segmentation fault\n")
    return "does not end with a complete record, though its run is marked done"


WRONG = [other_hparams, other_version, unknown_launcher, unknown_gpu, record_of_another_run, no_json_in_results]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_one_sentence_and_nothing_lost(sweep, capsys, monkeypatch, wrong):
    command, folder = sweep
    expected = wrong(command, folder, monkeypatch)
    before = snapshot(folder)
    capsys.readouterr()
    status, error = said(capsys, *command)
    assert status == 2
    assert error.startswith("error: ")
    assert expected in error
    assert len(error.splitlines()) == 1
    assert snapshot(folder) == before


@pytest.mark.slow
def test_data_that_changed_since_the_sweep_began(tmp_path, capsys):
    """The launch says so; what a launcher that runs already finds of it costs the run, not the sweep."""
    root, folder = image_tree(tmp_path / "mine"), tmp_path / "sweep"
    command = ["sweep", "launch", "--datasets", f"folder:{root}", "--output_dir", folder, *SMALL]
    command += ["--hparams", json.dumps(HPARAMS), "--skip_model_save", "--algorithms"]
    assert said(capsys, *command, "ERM") == (0, "")
    before = snapshot(folder)
    (root / "b" / "cat" / "0.jpg").write_bytes((root / "a" / "dog" / "1.jpg").read_bytes())
    status, error = said(capsys, *command, "CORAL")
    assert status == 2
    assert error.startswith("error: the data of folder:mine have changed since the sweep in ")
    assert len(error.splitlines()) == 1
    assert snapshot(folder) == before


def test_clocks_that_go_backwards(sweep, capsys, monkeypatch):
    """Times come from a clock that does not; files and claims from the future change nothing."""
    command, folder = sweep
    tomorrow = time.time() + 86400
    for path in folder.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    assert said(capsys, "sweep", "status", "--output_dir", folder) == (0, "")
    victim = find(folder)[0]
    (victim.folder / "done").unlink()
    (victim.folder / "claim-7.ended").touch()
    os.utime(victim.folder / "claim-7.ended", (tomorrow, tomorrow))
    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 1e9 - next(ticks))
    run(victim.arguments, echo=False)
    assert said(capsys, *command) == (0, "")
    assert [job.folder.marked for job in find(folder)] == ["done"] * 3
    assert 0 < json.loads((victim.folder / "results.jsonl").read_text().splitlines()[-1])["run_seconds"] < 600


@pytest.mark.slow
def test_a_path_with_spaces_and_letters_of_all_kinds(tmp_path, capsys):
    """From images to the table."""
    root = image_tree(tmp_path / "Bilder für Zürich 图像" / "mein Satz", environments=("Öl", "写真", "c d"))
    folder = tmp_path / "Läufe vom 1. März №1"
    command = ["sweep", "launch", "--datasets", f"folder:{root}", "--algorithms", "ERM", "--output_dir", folder, *SMALL]
    assert said(capsys, *command, "--hparams", json.dumps(HPARAMS)) == (0, "")
    assert said(capsys, "sweep", "status", "--output_dir", folder) == (0, "")
    assert cli.main(["collect", "--input_dir", str(folder)]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("folder:mein Satz", "Öl", "写真", "c d"))
    assert cli.main([str(word) for word in [*command, "--hparams", json.dumps(HPARAMS), "--dry_run"]]) == 0
