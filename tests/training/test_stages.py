"""Two-stage training: a new classifier on the frozen features of the first stage."""

import json
from pathlib import Path

import pytest
import torch
from factories import assert_same, sweep

from dg_batchformer import cli, default_hparams, get_algorithm_class
from dg_batchformer.algorithms import ERM
from dg_batchformer.errors import InputError
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.selection import collect
from dg_batchformer.selection.report import report
from dg_batchformer.training import trainer
from dg_batchformer.training.process import Interrupted
from dg_batchformer.training.retraining import ClassifierRetraining
from dg_batchformer.training.setup import Setup
from dg_batchformer.training.trainer import run

OWN = {"SWAD": {"swad_n_converge": 1, "swad_n_tolerance": 1}}


def arguments(folder, algorithm="ERM", **given):
    hparams = json.dumps({"batch_size": 4, **OWN.get(algorithm, {})})
    usual = {"steps": 4, "checkpoint_freq": 2, "stage": "crt", "stage_steps": 6, "hparams": hparams}
    return RunArguments(**{**usual, "algorithm": algorithm, "output_dir": str(folder), **given})


def rows_of(folder, name):
    return [json.loads(line) for line in (Path(folder) / name).read_text().splitlines()]


def model_of(folder):
    return torch.load(Path(folder) / "model.pkl", weights_only=True)["model_dict"]


@pytest.mark.parametrize("algorithm", ["ERM", "IRM_BatchFormer", "SWAD"])
def test_the_features_are_those_of_the_first_stage_and_only_the_classifier_changes(tmp_path, algorithm):
    run(arguments(tmp_path / "one", algorithm, stage=None, stage_steps=None), echo=False)
    run(arguments(tmp_path / "two", algorithm), echo=False)
    first, second = model_of(tmp_path / "one"), model_of(tmp_path / "two")
    for name, value in second.items():
        is_classifier = name.startswith(("classifier.", "network.1."))
        assert torch.equal(value, first[name]) != is_classifier, name
    # The model is an ERM's.
    hparams = default_hparams("ERM", "RotatedDigits")
    ERM((1, 16, 16), 10, 3, hparams).load_state_dict(second)
    # Steps 0 to 3, then 4 to 9 with a checkpoint at every second one and at the end of each stage.
    assert [row["step"] for row in rows_of(tmp_path / "two", "results.jsonl")] == [4, 6, 8, 9]
    first_records = rows_of(tmp_path / "two", "progress.jsonl")
    assert [row["step"] for row in first_records][:3] == [0, 2, 3]
    assert not (tmp_path / "one" / "progress.jsonl").exists() or algorithm == "SWAD"


def test_the_loss_is_the_cross_entropy_of_the_classifier_in_evaluation_mode():
    torch.manual_seed(0)
    hparams = {**default_hparams("ERM", "Debug28"), "lr": 0.1}
    base = get_algorithm_class("ERM")((3, 28, 28), 4, 2, hparams)
    frozen = ClassifierRetraining(base.featurizer, 4, hparams)
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    x, y = torch.randn(6, 3, 28, 28), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = torch.nn.functional.cross_entropy(frozen.predict(x), y)
    assert frozen.update([(x[:2], y[:2]), (x[2:], y[2:])])["loss"] == pytest.approx(expected.item())
    changed = {name for name, value in frozen.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias", "network.1.weight", "network.1.bias"}
    assert not frozen.featurizer.training
    assert frozen.classifier.training


def test_its_minibatches_are_balanced(tmp_path):
    setup = Setup.from_run(resolve(arguments(tmp_path, imbalance=0.05, hparams='{"batch_size": 200}')))
    counts = {balanced: [] for balanced in (False, True)}
    for balanced, own in counts.items():
        ((_, y), *_) = next(setup.minibatches(balanced=balanced))
        own += y.bincount(minlength=10).tolist()
    assert max(counts[True]) < 45 < max(counts[False])


@pytest.mark.parametrize("n", [3, 4, 7])
@pytest.mark.parametrize("algorithm", ["ERM_BatchFormer", "SWAD"])
def test_resumes_to_the_bit_in_both_stages(tmp_path, monkeypatch, algorithm, n):
    run(arguments(tmp_path / "whole", algorithm), echo=False)

    def leave(self):
        if self.state.n_updates == n:
            raise Interrupted(15)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.Trainer, "_leave_if_asked", leave)
        with pytest.raises(Interrupted):
            run(arguments(tmp_path / "cut", algorithm), echo=False)
    run(arguments(tmp_path / "cut", algorithm), echo=False)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_it_is_another_run_with_its_own_length(tmp_path):
    plain, staged, longer = (
        resolve(arguments(tmp_path, **given))
        for given in ({"stage": None, "stage_steps": None}, {"stage_steps": None}, {"stage_steps": 7})
    )
    assert [(one.first_stage, one.steps) for one in (plain, staged, longer)] == [(4, 4), (4, 8), (4, 11)]
    assert len({one.job_id for one in (plain, staged, longer)}) == 3
    dataset = Setup.from_run(plain).dataset
    assert len({one.identity(dataset) for one in (plain, staged, longer)}) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stage": "kcr"}, "unknown stage 'kcr'"),
        ({"stage": None, "stage_steps": 3}, "--stage_steps needs --stage"),
        ({"stage_steps": 0}, "--stage_steps is 0: expected at least 1"),
        ({"protocol": "tllib"}, "--stage needs balanced classes, and protocol tllib draws without replacement"),
    ],
)
def test_invalid_stages(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        resolve(arguments(tmp_path, **given))


def test_an_algorithm_without_features_is_an_error(tmp_path):
    with pytest.raises(InputError, match="--stage needs an algorithm with a `featurizer`"):
        run(arguments(tmp_path, f"{__name__}:Featureless"), echo=False)


class Featureless(torch.nn.Linear):
    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__(1, 1)

    def update(self, minibatches, unlabeled=None):
        return {"loss": 0.0}

    def predict(self, x):
        return torch.zeros(len(x), 10)


def test_in_a_table_it_is_a_row_and_a_comparison(tmp_path, capsys):
    """Beside the run of one stage."""
    for given in ({}, {"stage": "crt"}):
        sweep(tmp_path / ("two" if given else "one"), accuracy=0.6 if given else 0.5, given=given)
    found = report(collect([tmp_path / "one", tmp_path / "two"]), selections=["training-domain"])
    (result,) = found.results
    assert [row.label for row in result.section.rows] == ["ERM", 'ERM (stage "crt")']
    assert [one.overall.mean for one in result.comparisons] == pytest.approx([10])
    assert cli.main(["collect", "--input_dir", str(tmp_path / "two"), "--command", "PACS/ERM/A"]) == 0
    assert "--stage crt" in capsys.readouterr().out
