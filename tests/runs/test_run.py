"""A run's names become objects, and every wrong argument is named, all of them at once, before any work."""

import dataclasses
import json

import pytest
import torch

from dg_batchformer import default_hparams, random_hparams
from dg_batchformer.data.environments import Dataset, TensorEnvironment
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"algorithm": "CORRAL"}, "unknown algorithm 'CORRAL': did you mean CORAL"),
        ({"dataset": "RotatedDigit"}, "unknown dataset 'RotatedDigit': did you mean RotatedDigits"),
        ({"hparams": '{"lrr": 1}'}, "unknown hparam 'lrr': did you mean lr"),
        ({"hparams": '{"irm_lambda": 1}'}, "unknown hparam 'irm_lambda'"),
        ({"hparams": "lr=1"}, "--hparams 'lr=1' is not JSON"),
        ({"hparams": "[1]"}, "is a JSON list: expected an object"),
        ({"hparams": '{"lr": NaN}'}, "'lr' is nan: expected a finite number of at least 0"),
        ({"hparams": '{"weights": "/no/file.pth"}'}, "'weights' is '/no/file.pth': expected 'imagenet', null or an ex"),
        ({"test_envs": [4]}, "test environment 4 is out of range: expected one of 0 (0), 1 (25), 2 (50), 3 (75)"),
        ({"test_envs": [-1]}, "test environment -1 is out of range"),
        ({"test_envs": [1, 1]}, "names an environment twice"),
        ({"test_envs": [0, 1, 2, 3]}, "leaves no environment to train on"),
        ({"test_envs": []}, "no test environment is given"),
        ({"steps": 0}, "--steps is 0: expected at least 1"),
        ({"checkpoint_freq": -5}, "--checkpoint_freq is -5"),
        ({"seed": -1}, "--seed is -1: expected a number from 0 to 4294967295"),
        ({"holdout_fraction": 1.0}, "--holdout_fraction is 1.0: expected a number between 0 and 1"),
    ],
)
def test_wrong_arguments(given, message):
    with pytest.raises(InputError) as error:
        resolve(RunArguments(**given))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_an_output_folder_that_cannot_be_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for below in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(InputError, match=r"--output_dir .* cannot be created: .*file is a file"):
            resolve(RunArguments(output_dir=str(below)))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root, who may write anywhere
    with pytest.raises(InputError, match="is not writable: check the permissions"):
        resolve(RunArguments(output_dir=str(tmp_path / "new")))


def test_all_problems_come_together():
    with pytest.raises(InputError) as error:
        resolve(RunArguments(dataset="X", algorithm="Y", hparams="{", steps=0))
    assert len(str(error.value).splitlines()) == 4


def test_hparams_are_defaults_draws_and_what_was_given():
    assert resolve(RunArguments()).hparams == default_hparams("ERM", "RotatedDigits")
    drawn = resolve(
        RunArguments(algorithm="IRM", hparams_seed=3, trial_seed=2, hparams=json.dumps({"lr": 0.5}))
    ).hparams
    # DomainBed's row: the stream is seeded by (hparams_seed, trial_seed).
    assert drawn == {**random_hparams("IRM", "RotatedDigits", seed_hash(3, 2)), "lr": 0.5}


def draws(trial_seed, *, fixed_hparams, algorithm="CORAL", hparams_seed=3):
    seeds = {"hparams_seed": hparams_seed, "trial_seed": trial_seed}
    return resolve(RunArguments(algorithm=algorithm, fixed_hparams=fixed_hparams, **seeds)).hparams


def test_fixed_hparams_are_trial_0s_in_every_trial():
    first = random_hparams("CORAL", "RotatedDigits", seed_hash(3, 0))
    assert [draws(trial_seed, fixed_hparams=True) for trial_seed in range(3)] == [first] * 3
    own = [draws(trial_seed, fixed_hparams=False)["lr"] for trial_seed in range(3)]
    assert own[0] == first["lr"]
    assert len(set(own)) == 3
    assert len({draws(2, fixed_hparams=True, hparams_seed=row)["lr"] for row in range(4)}) == 4  # rows still differ


def test_variants_are_paired_under_fixed_hparams():
    base, variant = (draws(2, fixed_hparams=True, algorithm=name) for name in ("CORAL", "CORAL_BatchFormer"))
    assert {name: variant[name] for name in base} == base


def test_fixed_hparams_leave_the_defaults_alone():
    for name in ("ERM", "SWAD_BatchFormer"):
        assert draws(2, fixed_hparams=True, algorithm=name, hparams_seed=0) == default_hparams(name, "RotatedDigits")


def test_an_existing_weights_file_and_null_are_fine(tmp_path):
    (tmp_path / "w.pth").touch()
    for weights in (str(tmp_path / "w.pth"), None, "imagenet"):
        assert resolve(RunArguments(hparams=json.dumps({"weights": weights}))).hparams["weights"] == weights


DATASET = Dataset("RotatedDigits", [TensorEnvironment("a", torch.zeros(3), torch.zeros(3))], (1,), ("0", "1"))


def test_fixed_hparams_stand_in_the_identity_of_a_state_by_the_draw_alone():
    """So that a state of a version that did not know them is still the run's."""
    before = "58dc496fcd422d825ce2b1e9c7d5e91be270696ca812243aca016215d07c1b54"
    for fixed_hparams in (False, True):
        run = resolve(RunArguments(hparams_seed=2, trial_seed=1, fixed_hparams=fixed_hparams))
        assert dataclasses.replace(run, hparams={"lr": 0.5}).identity(DATASET) == before
        assert dataclasses.replace(run, hparams={"lr": 0.4}).identity(DATASET) != before


def test_an_identity_is_of_the_data_and_of_what_changes_the_result():
    def identity(dataset=DATASET, **given):
        return resolve(RunArguments(**given)).identity(dataset)

    free = {"output_dir": "elsewhere", "checkpoint_minutes": 3.0, "skip_model_save": True, "data_dir": "there"}
    assert identity(**free) == identity()
    assert identity(steps=301) == identity()  # which is the dataset's
    others = (
        {"steps": 300},
        {"seed": 1},
        {"trial_seed": 1},
        {"test_envs": [1]},
        {"precision": "bf16"},
        {"compile": True},
    )
    assert len({identity(), *(identity(**other) for other in others)}) == 1 + len(others)
    assert identity(dataclasses.replace(DATASET, fingerprint="other")) != identity()
