"""Given training environments, and several that are left out."""

import json

import pytest

from dg_batchformer import ALGORITHMS, cli
from dg_batchformer.data import load_dataset
from dg_batchformer.errors import InputError
from dg_batchformer.jobs.plan import Sweep, plan
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.setup import Setup

DIGITS = load_dataset("RotatedDigits")


def train(folder, *words):
    given = ["--steps", "3", "--checkpoint_freq", "2", "--hparams", '{"batch_size": 8}', "--output_dir", str(folder)]
    assert cli.main(["train", *given, *words]) == 0
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains_on_one_environment(tmp_path, algorithm):
    (*_, record) = train(tmp_path, "--train_envs", "1", "--algorithm", algorithm)
    assert record["args"]["test_envs"] == [0, 2, 3]
    assert record["args"]["train_envs"] == [1]
    assert {f"env{i}_in_acc" for i in range(4)} <= record.keys()


def test_other_environments_take_no_part(tmp_path):
    """Not in minibatches, not in the validation loss, and with the draws of their own generators."""
    setups = {
        name: Setup.from_run(resolve(RunArguments(test_envs=[3], **given)), DIGITS)
        for name, given in {"all": {}, "two": {"train_envs": [0, 2]}}.items()
    }
    assert setups["two"].run.training_envs == [0, 2]
    everything, some = (next(setups[name].minibatches()) for name in ("all", "two"))
    assert len(some) == 2
    for (x, y), (own_x, own_y) in zip(some, everything[::2], strict=True):
        assert x.equal(own_x)
        assert y.equal(own_y)


def test_a_sweep_of_single_sources(tmp_path):
    common = RunArguments(output_dir=str(tmp_path))
    jobs = plan(Sweep(["RotatedDigits"], ["ERM"], n_hparams=1, n_trials=2, n_test_envs=3, common=common))
    assert [job.arguments.test_envs for job in jobs] == 2 * [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert len({job.folder.name for job in jobs}) == 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_envs": [4]}, "training environment 4 is out of range: expected one of 0 "),
        ({"train_envs": [1, 1]}, "--train_envs [1, 1] names an environment twice"),
        ({"train_envs": [0, 1]}, "--train_envs and --test_envs both name [0]: expected different environments"),
        ({"test_envs": [0, 1, 2, 3]}, "leaves no environment to train on"),
    ],
)
def test_invalid_environments(given, message):
    with pytest.raises(InputError) as error:
        resolve(RunArguments(**given))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_test_envs": 5}, "--n_test_envs 5 leaves no environment of RotatedDigits to train on"),
        ({"n_test_envs": 4}, "leaves no environment to train on"),
        ({"n_test_envs": 0}, "--n_test_envs is 0: expected at least 1"),
        ({"n_test_envs": 2, "pairs": True}, "--n_test_envs contradicts --pairs and --single_test_envs"),
    ],
)
def test_invalid_sweeps(tmp_path, given, message):
    with pytest.raises(InputError) as error:
        plan(Sweep(["RotatedDigits"], ["ERM"], common=RunArguments(output_dir=str(tmp_path)), **given))
    assert message in str(error.value)
