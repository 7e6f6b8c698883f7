"""Runs on a dataset with its own splits: trained and tested on all environments, or with one left out."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from factories import assert_same, manifest

from dg_batchformer import cli
from dg_batchformer.errors import InputError
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.process import Interrupted
from dg_batchformer.training.setup import Setup
from dg_batchformer.training.trainer import run

HPARAMS = json.dumps({"backbone": "resnet18", "weights": None, "batch_size": 2, "freeze_backbone": True})


@pytest.fixture
def arguments(tmp_path):
    file = manifest(tmp_path / "listed")

    def made(folder="run", **given):
        usual = {"dataset": f"manifest:{file}", "test_envs": [], "steps": 4, "checkpoint_freq": 2, "hparams": HPARAMS}
        return RunArguments(**{**usual, "output_dir": str(tmp_path / folder), "skip_model_save": False, **given})

    return made


def records_of(arguments):
    with open(f"{arguments.output_dir}/results.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_all_environments_are_trained_on_and_tested(arguments):
    setup = Setup.from_run(resolve(arguments()))
    assert setup.run.training_envs == [0, 1, 2]
    for _, step in zip(range(5), setup.minibatches(), strict=False):
        assert [len(y) for _, y in step] == [2, 2, 2]
    run(arguments(), echo=False)
    for one in records_of(arguments()):
        assert one["classes"] == ["cat", "dog"]
        assert one["class_counts"] == {"a": [2, 2], "b": [2, 2], "c": [2, 2]}
        for i in range(3):
            # Two test images, one for each class.
            assert one[f"env{i}_test_acc"] == sum(one[f"env{i}_test_by_class"]) / 2
            assert one[f"env{i}_out_acc"] in (0, 0.5, 1)
            assert f"env{i}_in_acc" not in one


def test_only_training_images_are_trained_on(arguments):
    setup = Setup.from_run(resolve(arguments()))
    seen = [{tuple(row) for row in setup.dataset.environments[i].images.tolist()} for i in range(3)]
    training = [
        {tuple(row) for row in setup.dataset.environments[i].images[setup.splits[i].inside].tolist()} for i in range(3)
    ]
    assert [len(own) for own in seen] == [8, 8, 8]
    drawn = [set(), set(), set()]
    for _, step in zip(range(40), setup.minibatches(), strict=False):
        for own, (x, _) in zip(drawn, step, strict=True):
            own |= {tuple(row) for row in x.tolist()}
    assert drawn == training


def test_one_environment_left_out_is_tested_on_its_test_split(arguments):
    setup = Setup.from_run(resolve(arguments(test_envs=[1])))
    own = setup.dataset.splits
    assert setup.run.training_envs == [0, 2]
    assert torch.equal(setup.splits[1].inside, own[1].test)
    assert torch.equal(setup.splits[0].inside, own[0].inside)
    assert all(split.test is None for split in setup.splits)
    run(arguments(test_envs=[1]), echo=False)
    last = records_of(arguments())[-1]
    assert last["class_counts"] == {"a": [2, 2], "c": [2, 2]}
    assert len(last["env1_in_by_class"]) == 2


def test_a_long_tail_is_of_the_training_images_only(arguments):
    setup = Setup.from_run(resolve(arguments(imbalance=0.5)))
    assert setup.class_counts == {"a": [2, 1], "b": [2, 1], "c": [2, 1]}
    for split, own in zip(setup.splits, setup.dataset.splits, strict=True):
        assert torch.equal(split.test, own.test)
        assert torch.equal(split.out, own.out)


def test_resumes_to_the_bit(arguments, monkeypatch):
    from dg_batchformer.training import trainer

    run(arguments("whole"), echo=False)

    def leave(self):
        if self.state.n_updates == 3:
            raise Interrupted(15)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.Trainer, "_leave_if_asked", leave)
        with pytest.raises(Interrupted):
            run(arguments("cut"), echo=False)
    run(arguments("cut"), echo=False)
    assert_same(Path(arguments("whole").output_dir), Path(arguments("cut").output_dir))


def test_train_leaves_none_out_unless_asked(arguments, capsys):
    given = arguments()
    argv = ["train", "--dataset", given.dataset, "--steps", "1", "--hparams", HPARAMS]
    assert cli.main([*argv, "--output_dir", given.output_dir]) == 0
    assert "no environment left out" in capsys.readouterr().out
    assert records_of(given)[0]["args"]["test_envs"] == []
    assert cli.main([*argv, "--output_dir", f"{given.output_dir}2", "--test_envs", "2"]) == 0
    assert "test environments [2]" in capsys.readouterr().out


def test_the_command_of_a_run_is_read_back(arguments):
    from dg_batchformer.cli import parser

    words = shlex.split(arguments().command)
    assert parser().parse_args(words[3:]).test_envs == []


def test_a_random_share_makes_no_sense_with_given_splits(arguments):
    with pytest.raises(InputError, match=r"--holdout_fraction is given, but manifest:.* has its own splits: omit it"):
        resolve(arguments(holdout_fraction=0.5))


def test_without_test_splits_an_environment_must_be_left_out(tmp_path):
    file = manifest(tmp_path / "listed", splits=False)
    with pytest.raises(InputError, match="no test environment is given"):
        resolve(RunArguments(dataset=f"manifest:{file}", test_envs=[], output_dir=str(tmp_path / "run")))
