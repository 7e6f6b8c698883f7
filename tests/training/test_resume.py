"""A run that is killed at any instant ends as one that was not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from factories import assert_same, image_tree

from dg_batchformer import ALGORITHMS, get_algorithm_class
from dg_batchformer.data import load_dataset
from dg_batchformer.errors import InputError
from dg_batchformer.runs import files, resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.folder import RunFolder, State
from dg_batchformer.training import compute, features, state
from dg_batchformer.training.process import Interrupted
from dg_batchformer.training.trainer import run

NOISE = load_dataset("Debug28")
HPARAMS = {
    "batch_size": 4,
    "irm_penalty_anneal_iters": 4,
    "vrex_penalty_anneal_iters": 4,
    "swad_n_converge": 1,
    "swad_n_tolerance": 2,
    "boda_start_step": 3,
    "boda_feature_freq": 2,
}


class Killed(BaseException):
    """As a SIGKILL: nobody handles it."""


def arguments(folder, algorithm="ERM", **given):
    known = {"IRM": ("irm",), "VREx": ("vrex",), "SWAD": ("swad",), "BoDA": ("boda",)}
    prefixes = ("batch_size", *(prefix for name, own in known.items() if name in algorithm for prefix in own))
    hparams = {name: value for name, value in HPARAMS.items() if name.startswith(prefixes)}
    usual = {"dataset": "Debug28", "steps": 9, "checkpoint_freq": 2, "checkpoint_minutes": 0.0}
    usual |= {"hparams": json.dumps(hparams), "algorithm": algorithm, "output_dir": str(folder)}
    return RunArguments(**{**usual, **given})


def train(*args, **given):
    run(arguments(*args, **given), NOISE, echo=False)


def killed_at(monkeypatch, n, *args, **given):
    """Trains until the n-th update of this process, which is not finished."""
    cls = get_algorithm_class(arguments(*args, **given).algorithm)
    original, calls = cls.update, []

    def update(self, *minibatches):
        calls.append(self)
        # The first of BatchFormer's and MixStyle's are tried on a copy.
        if sum(one is calls[-1] for one in calls) == n:
            raise Killed
        return original(self, *minibatches)

    monkeypatch.setattr(cls, "update", update)
    with pytest.raises(Killed):
        train(*args, **given)
    monkeypatch.setattr(cls, "update", original)


CASES = [(name, "domainbed") for name in [*ALGORITHMS, "VREx_MixStyle_BatchFormer_SWAD", "BoDA_BatchFormer_SWAD"]]


@pytest.mark.parametrize(("algorithm", "protocol"), [*CASES, ("ERM", "tllib"), ("IRM_BatchFormer", "tllib")])
def test_it_ends_as_an_unbroken_one(tmp_path, monkeypatch, algorithm, protocol):
    """Killed twice: before the optimizer is made anew, and after."""
    train(tmp_path / "unbroken", algorithm, protocol=protocol)
    for n in (4, 4):
        killed_at(monkeypatch, n, tmp_path / "broken", algorithm, protocol=protocol)
    broken = RunFolder(tmp_path / "broken")
    assert (broken.marked, broken.begun) == (State.WAITING, True)
    train(tmp_path / "broken", algorithm, protocol=protocol)
    assert_same(tmp_path / "unbroken", tmp_path / "broken")
    assert "resuming after 6 updates" in (tmp_path / "broken" / "out.txt").read_text()
    assert not list((tmp_path / "broken").glob("resume*"))


def test_an_evaluation_that_is_interrupted_is_made_again(tmp_path, monkeypatch):
    train(tmp_path / "unbroken")
    original, calls = compute.correct_and_loss, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 9:  # of the second checkpoint, which has six splits as the first
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    monkeypatch.setattr(compute, "correct_and_loss", interrupted)
    with pytest.raises(Interrupted):
        train(tmp_path / "broken")
    monkeypatch.setattr(compute, "correct_and_loss", original)
    assert "stopped by SIGTERM after " in (tmp_path / "broken" / "out.txt").read_text()
    train(tmp_path / "broken")
    assert_same(tmp_path / "unbroken", tmp_path / "broken")


def heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_signals_save_and_leave(tmp_path, name):
    code = (
        "import sys; from dg_batchformer.cli import main; "
        "sys.exit(main(['train', '--dataset', 'Debug28', '--steps', '100000', '--checkpoint_freq', '100000', "
        f"'--hparams', '{{\"batch_size\": 4}}', '--output_dir', {str(tmp_path / 'run')!r}]))"
    )
    command = [sys.executable, "-c", code]
    # A shell in the background has its processes ignore SIGINT, which these tests inherit.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    try:
        for line in process.stdout:
            if line.startswith("step 0"):
                break
        process.send_signal(getattr(signal, name))
        rest = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 128 + getattr(signal, name)
    assert f"stopped by {name} after " in rest
    assert len(list((tmp_path / "run").glob("resume-*.pt"))) == 1
    broken = RunFolder(tmp_path / "run")
    assert (broken.marked, broken.begun) == (State.WAITING, True)


@pytest.mark.parametrize("trouble", ["torn", "empty", "foreign", "older", "lost records"])
def test_a_file_that_does_not_serve_is_set_aside(tmp_path, monkeypatch, trouble):
    folder = tmp_path / "broken"
    train(tmp_path / "unbroken")
    killed_at(monkeypatch, 6, folder)
    newest, before = RunFolder(folder).saved_states()
    assert newest.name.startswith("resume-5-")
    if trouble in ("torn", "empty"):
        newest.write_bytes(newest.read_bytes()[: 1000 * (trouble == "torn")])
    elif trouble in ("foreign", "older"):
        if trouble == "older":
            monkeypatch.setattr(state, "VERSION", 0)
        newest.unlink()
        state.save(RunFolder(folder), 7, "another", {})
        monkeypatch.undo()
        newest = RunFolder(folder).saved_states()[0]
    else:
        (folder / files.RESULTS).write_text("")
    train(folder)
    assert_same(tmp_path / "unbroken", folder)
    said = {
        "torn": f"{newest.name} is damaged: renamed to",
        "empty": f"{newest.name} is damaged: renamed to",
        "foreign": f"{newest.name} belongs to another run or other data: renamed to",
        "older": f"{newest.name} has version 0, expected 1: renamed to",
        "lost records": "has fewer records than the saved state: starting from the beginning",
    }
    printed = (folder / "out.txt").read_text()
    assert said[trouble] in printed
    assert ("resuming after 4 updates" in printed) == (trouble != "lost records")
    assert before.exists() is False


def test_other_settings_start_from_the_beginning(tmp_path, monkeypatch):
    killed_at(monkeypatch, 6, tmp_path / "broken")
    train(tmp_path / "unbroken", hparams='{"batch_size": 4, "lr": 0.01}')
    train(tmp_path / "broken", hparams='{"batch_size": 4, "lr": 0.01}')
    assert_same(tmp_path / "unbroken", tmp_path / "broken")
    assert "belongs to another run or other data" in (tmp_path / "broken" / "out.txt").read_text()


@pytest.mark.parametrize("changed", [False, True])
def test_it_goes_on_with_a_copy_of_the_data_and_not_with_others(tmp_path, monkeypatch, changed):
    monkeypatch.setattr(sys.modules[__name__], "NOISE", None)
    monkeypatch.setattr(
        features, "of_samples", lambda frozen, dataset, samples, *args: torch.ones(len(samples.indices), 8)
    )
    tiny = '{"batch_size": 2, "freeze_backbone": true, "backbone": "resnet18", "weights": null, "head_widths": [4]}'
    root = image_tree(tmp_path / "here" / "mine", n=5)
    given = {"dataset": f"folder:{root}", "hparams": tiny}
    killed_at(monkeypatch, 6, tmp_path / "broken", **given)
    copy = shutil.copytree(root, tmp_path / "there" / "mine", copy_function=shutil.copyfile)
    if changed:
        shutil.copyfile(copy / "a" / "cat" / "0.jpg", copy / "a" / "cat" / "1.jpg")
    shutil.rmtree(tmp_path / "here")
    train(tmp_path / "broken", **{**given, "dataset": f"folder:{copy}"})
    printed = (tmp_path / "broken" / "out.txt").read_text()
    assert ("resuming after 5 updates" in printed) != changed
    assert ("belongs to another run or other data" in printed) == changed


def test_records_that_are_not_json_are_set_aside(tmp_path, monkeypatch):
    train(tmp_path / "unbroken")
    killed_at(monkeypatch, 6, tmp_path / "broken")
    path = tmp_path / "broken" / files.RESULTS
    damaged = path.read_bytes().replace(b"{", b"\0", 1)
    path.write_bytes(damaged)
    killed_at(monkeypatch, 3, tmp_path / "broken")
    (aside,) = (tmp_path / "broken").glob("results-*.aside")
    assert aside.read_bytes() == damaged
    said = f"{path} has lines that are not JSON: renamed to {aside.name}: starting from the beginning"
    assert said in (tmp_path / "broken" / "out.txt").read_text()
    train(tmp_path / "broken")  # from what was saved since
    assert "resuming after 2 updates" in (tmp_path / "broken" / "out.txt").read_text()
    assert_same(tmp_path / "unbroken", tmp_path / "broken")
    assert aside.read_bytes() == damaged


def test_torn_lines_are_cut_off(tmp_path, monkeypatch):
    train(tmp_path / "unbroken")
    killed_at(monkeypatch, 6, tmp_path / "broken")
    with (tmp_path / "broken" / files.RESULTS).open("a") as file:
        file.write('{"step": 9, "env0_in_')
    train(tmp_path / "broken")
    assert_same(tmp_path / "unbroken", tmp_path / "broken")


def test_states_are_saved_as_often_as_asked(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(state, "save", lambda folder, n_updates, *rest: saved.append(n_updates))
    train(tmp_path / "always")
    assert saved == list(range(1, 10))
    saved.clear()
    train(tmp_path / "hourly", checkpoint_minutes=60)
    assert saved == []
    with pytest.raises(InputError, match="--checkpoint_minutes is -1: expected at least 0"):
        resolve(arguments(tmp_path, checkpoint_minutes=-1))


def test_nothing_random_is_left_out(tmp_path, monkeypatch):
    """What an algorithm of others draws from Python's and NumPy's generators goes on too."""
    import numpy as np

    from dg_batchformer import register_algorithm, registry
    from dg_batchformer.algorithms import ERM

    class Draws(ERM):
        def update(self, minibatches, unlabeled=None):
            values = super().update(minibatches, unlabeled)
            self.counts = [*getattr(self, "counts", []), len(minibatches)]
            return {
                **values,
                "drawn": random.random() + np.random.rand() + float(torch.rand(())),
                "n": len(self.counts),
            }

    monkeypatch.setattr(registry, "_objectives", dict(registry._objectives))
    register_algorithm(Draws)
    train(tmp_path / "unbroken", "Draws")
    killed_at(monkeypatch, 6, tmp_path / "broken", "Draws")
    train(tmp_path / "broken", "Draws")
    assert_same(tmp_path / "unbroken", tmp_path / "broken")
