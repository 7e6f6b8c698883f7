"""A run leaves DomainBed's files, and says why it stops where it does."""

import json

import pytest
import torch
from factories import image_tree

from dg_batchformer import default_hparams, get_algorithm_class, register_algorithm, registry
from dg_batchformer.algorithms import ERM
from dg_batchformer.data import load_dataset
from dg_batchformer.errors import DivergedError, InputError
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.trainer import run

DIGITS = load_dataset("RotatedDigits")
ARGUMENTS = {"steps": 5, "checkpoint_freq": 2, "hparams": '{"batch_size": 8}'}


def train(folder, loaded=DIGITS, **arguments):
    run(RunArguments(**{**ARGUMENTS, **arguments}, output_dir=str(folder)), loaded, echo=False)
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_files_and_records_are_domainbeds(tmp_path):
    records = train(tmp_path / "run", algorithm="IRM", test_envs=[2], trial_seed=1)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "done",
        "err.txt",
        "model.pkl",
        "out.txt",
        "results.jsonl",
    ]
    assert (tmp_path / "run" / "done").read_text() == "done"
    assert [record["step"] for record in records] == [0, 2, 4]
    accuracies = {f"env{i}_{split}_acc" for i in range(4) for split in ("in", "out")}
    expected = accuracies | {"step", "epoch", "loss", "nll", "penalty", "step_time", "mem_gb", "hparams", "args"}
    for record in records:
        assert expected <= record.keys()
        assert {"device", "versions", "images_per_second", "backbone", "weights", "batch_norm"} <= record.keys()
        assert record["epoch"] == pytest.approx(record["step"] * 8 / (449 - 89))
        assert record["args"]["test_envs"] == [2]
        assert record["data_fingerprint"] == DIGITS.fingerprint
        assert record["hparams"] == {**default_hparams("IRM", "RotatedDigits"), "batch_size": 8}
        assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    printed = (tmp_path / "run" / "out.txt").read_text()
    assert "step 0 of 4: loss" in printed
    assert "steps/s" in printed
    assert "backbone: ConvNet" in printed
    assert "50*" in printed


def test_a_recorded_loss_is_the_mean_since_the_last_checkpoint(tmp_path):
    each = [record["loss"] for record in train(tmp_path / "each", checkpoint_freq=1)]
    mean = [record["loss"] for record in train(tmp_path / "mean")]
    assert mean == pytest.approx([each[0], (each[1] + each[2]) / 2, (each[3] + each[4]) / 2])


def test_a_run_can_be_repeated_to_the_bit(tmp_path):
    runs = [train(tmp_path / name, algorithm="MixStyle_BatchFormer") for name in ("one", "other")]
    for one, other in zip(*runs, strict=True):
        timed = {"step_time", "images_per_second", "run_seconds", "args"}
        assert {k: v for k, v in one.items() if k not in timed} == {k: v for k, v in other.items() if k not in timed}
    models = [torch.load(tmp_path / name / "model.pkl", weights_only=True) for name in ("one", "other")]
    assert all(torch.equal(v, models[1]["model_dict"][k]) for k, v in models[0]["model_dict"].items())


@pytest.mark.parametrize("algorithm", ["ERM_BatchFormer", "SWAD_BatchFormer", "VREx_MixStyle"])
def test_the_model_is_the_bases_and_loads_safely(tmp_path, algorithm):
    (*_, last) = train(tmp_path / "run", algorithm=algorithm, test_envs=[3])
    saved = torch.load(tmp_path / "run" / "model.pkl", weights_only=True)
    assert saved.keys() == {
        "args",
        "model_input_shape",
        "model_num_classes",
        "model_num_domains",
        "model_hparams",
        "model_dict",
    }
    base = get_algorithm_class(algorithm.split("_")[0] if "VREx" in algorithm else "ERM")
    model = base(
        saved["model_input_shape"], saved["model_num_classes"], saved["model_num_domains"], saved["model_hparams"]
    )
    model.load_state_dict(saved["model_dict"])
    model.eval()
    inside = torch.tensor(_inside(3))
    environment = DIGITS.environments[3]
    correct = (model.predict(environment.inputs(inside)).argmax(1) == environment.labels[inside]).float().mean()
    assert correct.item() == pytest.approx(last["env3_in_acc"])


def _inside(env):
    from dg_batchformer.data.splits import split_environments

    return split_environments(DIGITS.sizes, 0.2, 0)[env].inside.tolist()


def test_swad_has_one_record_after_finish_under_the_last_step(tmp_path):
    (final,) = train(tmp_path / "run", algorithm="SWAD", steps=9, hparams='{"batch_size": 8, "swad_n_converge": 1}')
    progress = [json.loads(line) for line in (tmp_path / "run" / "progress.jsonl").read_text().splitlines()]
    assert [record["step"] for record in progress] == [0, 2, 4, 6, 8]
    assert final["step"] == 8
    assert final["swad_window"][1] == 8
    assert final["validation_loss"] != progress[-1]["validation_loss"]
    assert "SWAD averaged steps" in (tmp_path / "run" / "out.txt").read_text()


def test_swad_sees_the_validation_losses_that_are_recorded(tmp_path, monkeypatch):
    seen = []
    cls = get_algorithm_class("SWAD")
    original = cls.on_validation
    monkeypatch.setattr(cls, "on_validation", lambda self, *given: (seen.append(given), original(self, *given)))
    train(tmp_path / "run", algorithm="SWAD")
    progress = [json.loads(line) for line in (tmp_path / "run" / "progress.jsonl").read_text().splitlines()]
    assert seen == [(record["step"], record["validation_loss"]) for record in progress]


def test_models_of_every_checkpoint_or_none(tmp_path):
    train(tmp_path / "all", save_model_every_checkpoint=True)
    train(tmp_path / "none", skip_model_save=True)
    models = [sorted(path.name for path in (tmp_path / name).glob("*.pkl")) for name in ("all", "none")]
    assert models == [["model.pkl", "model_step0.pkl", "model_step2.pkl", "model_step4.pkl"], []]


def test_small_environments_train(tmp_path):
    dataset = load_dataset("Debug28")  # 16 images an environment, fewer than the batch
    (*_, last) = train(tmp_path / "run", dataset, dataset="Debug28", hparams='{"batch_size": 40}', steps=2)
    assert last["step"] == 1


def test_an_unfinished_run_is_replaced_and_that_is_said(tmp_path):
    train(tmp_path / "run", steps=1)
    (tmp_path / "run" / "done").unlink()
    assert [record["step"] for record in train(tmp_path / "run")] == [0, 2, 4]
    assert "held an earlier run" in (tmp_path / "run" / "out.txt").read_text()


def test_a_finished_run_is_replaced_when_asked_alone(tmp_path):
    train(tmp_path / "run", steps=1)
    with pytest.raises(InputError, match="holds a finished run: give another --output_dir, or --overwrite"):
        train(tmp_path / "run")
    arguments = RunArguments(**ARGUMENTS, output_dir=str(tmp_path / "run"))
    run(arguments, DIGITS, echo=False, overwrite=True)
    assert len((tmp_path / "run" / "results.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("algorithm", ["ERM", "SWAD"])
def test_the_records_of_another_run_are_not_replaced_unasked(tmp_path, algorithm):
    train(tmp_path / "run", algorithm=algorithm, steps=1)
    (tmp_path / "run" / "done").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    said = rf"run holds records of another run \({algorithm} on RotatedDigits, test_envs \[0\], .*or --overwrite"
    for other in ({"algorithm": "CORAL"}, {"test_envs": [1]}, {"trial_seed": 1}):
        with pytest.raises(InputError, match=said):
            train(tmp_path / "run", **{"algorithm": algorithm, **other})
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    arguments = RunArguments(**ARGUMENTS, algorithm="CORAL", output_dir=str(tmp_path / "run"))
    run(arguments, DIGITS, echo=False, overwrite=True)
    assert "CORAL" in (tmp_path / "run" / "results.jsonl").read_text()


class Diverging(ERM):
    """Its loss is not finite at the fourth step."""

    def objective(self, features, labels):
        values = super().objective(features, labels)
        self.calls = getattr(self, "calls", 0) + 1
        return {"loss": values["loss"] * float("nan")} if self.calls == 4 else values


def test_divergence_stops_the_run_with_step_and_last_values(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_objectives", dict(registry._objectives))
    register_algorithm(Diverging)
    with pytest.raises(
        DivergedError, match=r"at step 3 is not finite: \{'loss': nan\}; the last finite ones: \{'loss': \d"
    ):
        train(tmp_path / "run", algorithm="Diverging")
    assert not (tmp_path / "run" / "done").exists()
    assert "at step 3" in (tmp_path / "run" / "failed").read_text()
    assert "Traceback" in (tmp_path / "run" / "err.txt").read_text()


def test_weights_that_the_last_step_broke_are_no_result(tmp_path):
    with pytest.raises(DivergedError, match=r"at step 0 is not finite: \{'validation_loss': nan\}"):
        train(tmp_path / "run", algorithm="SWAD", steps=1, hparams='{"batch_size": 4, "lr": 1e30}')
    assert not (tmp_path / "run" / "done").exists()


def test_a_refused_run_leaves_an_earlier_one_alone(tmp_path):
    train(tmp_path / "run")
    (tmp_path / "run" / "done").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for wrong in (
        {"algorithm": "BatchFormer", "hparams": '{"batchformer_heads": 5}'},
        {"algorithm": "MixStyle", "hparams": '{"mixstyle_layers": ["layer9"]}'},
        {"steps": 0},
    ):
        with pytest.raises(InputError):
            train(tmp_path / "run", **wrong)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


class NoNetwork(ERM):
    def __init__(self, *args):
        raise NotImplementedError


def test_an_algorithm_without_a_network_for_the_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_objectives", dict(registry._objectives))
    register_algorithm(NoNetwork)
    with pytest.raises(InputError, match=r"NoNetwork has no network for the inputs \(1, 16, 16\) of RotatedDigits"):
        train(tmp_path / "run", algorithm="NoNetwork")


@pytest.mark.parametrize(
    "wrong", [{"algorithm": "X"}, {"test_envs": [9]}, {"hparams": "{"}, {"holdout_fraction": 0.001}]
)
def test_wrong_arguments_leave_no_trace(tmp_path, wrong):
    with pytest.raises(InputError):
        train(tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_image_folders_train(tmp_path):
    root = image_tree(tmp_path / "mine", n=5)
    hparams = '{"batch_size": 2, "resnet18": true, "weights": null}'
    dataset = load_dataset(f"folder:{root}")
    (record,) = train(tmp_path / "run", dataset, dataset=f"folder:{root}", hparams=hparams, steps=1)
    assert (record["backbone"], record["weights"], record["batch_norm"]) == ("resnet18", "random", "free")
    assert record["environments"] == ["a", "b", "c"]
