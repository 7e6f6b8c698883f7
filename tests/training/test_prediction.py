"""Predictions of a trained model: equal to the records of its run; their quality, by hand and by scikit-learn."""

import csv
import json

import numpy as np
import pytest
import torch
from factories import image_tree, manifest
from sklearn import metrics

from dg_batchformer import ALGORITHMS, cli
from dg_batchformer.commands import models
from dg_batchformer.data import load_dataset
from dg_batchformer.runs import run_in
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.training.prediction import predict, quality

DIGITS = load_dataset("RotatedDigits")


def train(folder, *words):
    given = ["--steps", "21", "--checkpoint_freq", "20", "--hparams", '{"batch_size": 16}']
    assert cli.main(["train", "--output_dir", str(folder), *given, *words]) == 0
    return json.loads((folder / "results.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_accuracies_are_those_of_the_last_record(tmp_path, algorithm):
    record = train(tmp_path, "--algorithm", algorithm)
    found = list(predict(run_in(RunFolder(tmp_path)), "model.pkl"))
    assert len(found) == 8
    for one in found:
        i = [environment.name for environment in DIGITS.environments].index(one.environment)
        own = quality(one.logits, one.labels)
        assert own.accuracy == pytest.approx(record[f"env{i}_{one.split}_acc"], abs=1e-6)
        assert own.macro == pytest.approx(record[f"env{i}_{one.split}_macro_acc"], abs=1e-6)


def test_the_second_stage_has_a_model_too(tmp_path):
    record = train(tmp_path, "--algorithm", "CORAL_BatchFormer", "--stage", "crt")
    (one,) = predict(run_in(RunFolder(tmp_path)), "model.pkl", 2, "out")
    assert quality(one.logits, one.labels).accuracy == pytest.approx(record["env2_out_acc"], abs=1e-6)


def test_quality_by_hand_and_by_scikit_learn():
    logits = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (200,), generator=torch.Generator().manual_seed(1))
    own, shares = quality(logits, labels), logits.softmax(1).numpy()
    said = shares.argmax(1)
    assert own.accuracy == pytest.approx(metrics.accuracy_score(labels, said))
    assert own.macro == pytest.approx(metrics.recall_score(labels, said, average="macro", labels=range(3)))
    assert own.nll == pytest.approx(metrics.log_loss(labels, shares, labels=range(4)), rel=1e-5)
    assert own.confusion.tolist() == metrics.confusion_matrix(labels, said, labels=range(4)).tolist()
    assert own.brier == pytest.approx(((shares - np.eye(4)[labels]) ** 2).sum(1).mean(), rel=1e-5)
    assert own.by_class[:3] == pytest.approx(metrics.recall_score(labels, said, average=None, labels=range(3)))
    assert own.by_class[3] != own.by_class[3]
    confidence, error = shares.max(1), 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        error += (
            abs((said == labels.numpy())[inside].mean() - confidence[inside].mean()) * inside.mean()
            if inside.any()
            else 0
        )
    assert own.calibration == pytest.approx(error, abs=1e-5)
    perfect = quality(100 * torch.eye(4)[labels], labels)
    assert (perfect.accuracy, perfect.brier, perfect.calibration, perfect.nll) == (1, 0, 0, 0)


def test_the_files_have_classes_probabilities_and_logits(tmp_path, capsys):
    train(tmp_path / "run")
    words = ["predict", "--run", str(tmp_path / "run"), "--environment", "0", "--split", "out"]
    for ending in ("csv", "parquet"):
        assert cli.main([*words, "--output", str(tmp_path / f"out.{ending}")]) == 0
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    (one,) = predict(run_in(RunFolder(tmp_path / "run")), "model.pkl", 0, "out")
    assert [row["sample"] for row in rows] == list(one.samples)
    for row, logits, label in zip(rows, one.logits, one.labels.tolist(), strict=True):
        assert (row["environment"], row["split"], row["label"]) == ("0", "out", str(label))
        assert row["prediction"] == str(int(logits.argmax()))
        assert [float(row[f"logit {k}"]) for k in range(10)] == pytest.approx(logits.tolist())
        assert [float(row[f"probability {k}"]) for k in range(10)] == pytest.approx(logits.softmax(0).tolist())
    from pyarrow import parquet

    for row, other in zip(parquet.read_table(tmp_path / "out.parquet").to_pylist(), rows, strict=True):
        assert {k: str(np.float32(v)) if isinstance(v, float) else v for k, v in row.items()} == other


def test_the_printed_quality(tmp_path, capsys):
    record = train(tmp_path / "run")
    capsys.readouterr()
    assert cli.main(["predict", "--run", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["0*", "in", f"{100 * record['env0_in_acc']:.1f}"]
    validation = sum(record[f"env{i}_out_acc"] for i in (1, 2, 3)) / 3
    assert lines[-1].startswith(f"gap: {100 * (validation - record['env0_in_acc']):+.1f} points")
    assert cli.main(["predict", "--run", str(tmp_path / "run"), "--environment", "1", "--format", "json"]) == 0
    inside, out = json.loads(capsys.readouterr().out)
    assert (inside["environment"], inside["split"], out["split"]) == ("25", "in", "out")
    assert sum(map(sum, out["confusion"])) == 89
    assert out["accuracy"] == pytest.approx(record["env1_out_acc"])


def test_a_folder_of_images(tmp_path, capsys):
    """The same images give the same logits, whether from the data of the run or from a folder; also frozen."""
    root = image_tree(tmp_path / "mine", classes=("cat", "dog"))
    hparams = {"backbone": "resnet18", "weights": None, "batch_size": 2, "freeze_backbone": True}
    given = ["--dataset", f"folder:{root}", "--steps", "2", "--hparams", json.dumps(hparams)]
    assert cli.main(["train", *given, "--output_dir", str(tmp_path / "run")]) == 0
    words = ["predict", "--run", str(tmp_path / "run"), "--output", str(tmp_path / "out.csv")]
    assert cli.main([*words, "--images", str(root / "b")]) == 0
    with (tmp_path / "out.csv").open() as file:
        rows = {row["sample"]: row for row in csv.DictReader(file)}
    assert len(rows) == 8
    for one in predict(run_in(RunFolder(tmp_path / "run")), "model.pkl", 1):
        for sample, logits in zip(one.samples, one.logits.tolist(), strict=True):
            own = rows[sample.removeprefix("b/")]
            assert [float(own["logit cat"]), float(own["logit dog"])] == pytest.approx(logits, abs=1e-4)


def test_bad_input(tmp_path, capsys, monkeypatch):
    train(tmp_path / "run", "--skip_model_save")
    train(tmp_path / "whole")
    (tmp_path / "empty").mkdir()

    def error_of(*words, run="whole"):
        capsys.readouterr()
        assert cli.main(["predict", "--run", str(tmp_path / run), *words]) == 2
        return capsys.readouterr().err

    assert "model.pkl is missing: expected the model of a run without --skip_model_save" in error_of(run="run")
    assert "has no record of a run" in error_of(run="none")
    assert "--environment 4 is out of range: expected one of 0 (0), 1 (25)" in error_of("--environment", "4")
    assert "--split test: RotatedDigits has no test splits" in error_of("--split", "test")
    assert "--images contradicts --environment" in error_of("--images", "x", "--environment", "0")
    assert "--images needs --output" in error_of("--images", "x")
    assert "x.txt has another ending: expected .csv or .parquet" in error_of("--output", "x.txt")
    assert "has no images" in error_of("--images", str(tmp_path / "empty"), "--output", "x.csv")
    image_tree(tmp_path / "images", ("a",))
    words = ("--images", str(tmp_path / "images"), "--output", str(tmp_path / "x.csv"))
    assert "takes inputs of shape (1, 16, 16): these have (3, 224, 224)" in error_of(*words)
    assert not (tmp_path / "x.csv").exists()
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert "needs torchmetrics: install the extra `metrics`, or give --output" in error_of("--split", "out")
    assert "needs pyarrow: install the extra `parquet`, or write .csv" in error_of("--output", "x.parquet")
    own = ("--environment", "0", "--output", str(tmp_path / "x.csv"))
    assert cli.main(["predict", "--run", str(tmp_path / "whole"), *own]) == 0


def saved(file):
    """Logits (n, 10), labels (n,) and rows of a file of saved predictions of digits."""
    from pyarrow import parquet

    rows = parquet.read_table(file).to_pylist()
    logits = torch.tensor([[row[f"logit {k}"] for k in range(10)] for row in rows])
    return logits, torch.tensor([int(row["label"]) for row in rows]), rows


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_saved_predictions_are_those_of_the_records(tmp_path, algorithm):
    record = train(tmp_path / "run", "--algorithm", algorithm, "--save_predictions", "test", "--test_envs", "2")
    is_swad = algorithm.startswith("SWAD")
    last = "predictions_final" if is_swad else "predictions_step20"
    steps = {"predictions_step0.parquet", "predictions_step20.parquet"} | ({f"{last}.parquet"} if is_swad else set())
    assert {path.name for path in (tmp_path / "run").glob("predictions*")} == steps
    logits, labels, rows = saved(tmp_path / "run" / f"{last}.parquet")
    parts = np.array([row["split"] for row in rows])
    assert {row["environment"] for row in rows} == {"50"}
    for part in ("in", "out"):
        accuracy = float((logits.argmax(1) == labels)[parts == part].double().mean())
        assert accuracy == pytest.approx(record[f"env2_{part}_acc"])
    own = quality(logits[parts == "in"], labels[parts == "in"])
    assert record["env2_in_ece"] == pytest.approx(own.calibration)
    assert record["env2_in_brier"] == pytest.approx(own.brier)
    assert record["env2_in_nll"] == pytest.approx(own.nll)
    assert record["env2_in_confusion"] == own.confusion.tolist()
    assert record["classes"] == [str(k) for k in range(10)]


@pytest.mark.parametrize(("which", "environments"), [("all", "0123"), ("training", "023"), ("test", "1")])
def test_saving_predictions_changes_no_result(tmp_path, which, environments):
    own = train(tmp_path / "run", "--test_envs", "1", "--save_predictions", which)
    plain = train(tmp_path / "plain", "--test_envs", "1")
    details = {f"env{i}_in_{name}" for i in environments for name in ("ece", "brier", "nll", "confusion")}
    assert own.keys() - plain.keys() == details | {"classes"}
    assert [own[name] for name in plain if name.endswith(("_acc", "loss"))] == [
        plain[name] for name in plain if name.endswith(("_acc", "loss"))
    ]
    # A run that replaces one in its folder leaves no file of the earlier one.
    train(tmp_path / "run", "--test_envs", "1", "--overwrite")
    assert not list((tmp_path / "run").glob("predictions*"))


def test_saved_predictions_of_a_frozen_backbone_and_of_test_splits_name_images(tmp_path):
    from pyarrow import parquet

    listed = manifest(tmp_path / "mine")
    hparams = {"backbone": "resnet18", "weights": None, "batch_size": 2, "freeze_backbone": True}
    words = ["--steps", "2", "--hparams", json.dumps(hparams), "--save_predictions", "test"]
    for name, dataset, part in (("folder", f"folder:{listed.parent}", "in"), ("list", f"manifest:{listed}", "test")):
        assert cli.main(["train", "--dataset", dataset, *words, "--output_dir", str(tmp_path / name)]) == 0
        record = json.loads((tmp_path / name / "results.jsonl").read_text().splitlines()[-1])
        rows = parquet.read_table(tmp_path / name / "predictions_step1.parquet").to_pylist()
        assert {row["split"] for row in rows} == {part, "out"}
        assert all(row["sample"].startswith("a/") for row in rows if row["environment"] == "a")
        assert {row["label"] for row in rows} == {"cat", "dog"}
        assert {row["environment"] for row in rows} == ({"a"} if part == "in" else {"a", "b", "c"})
        assert record[f"env0_{part}_ece"] >= 0
        if part == "test":
            assert record["env1_test_confusion"]


def test_a_model_needs_no_package_of_its_launch(tmp_path, monkeypatch):
    train(tmp_path, "--save_predictions", "test")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_in(RunFolder(tmp_path)).arguments.save_predictions is None


def test_save_predictions_needs_its_packages(tmp_path, capsys, monkeypatch):
    given = ["train", "--output_dir", str(tmp_path / "run"), "--save_predictions"]
    assert cli.main([*given, "left"]) == 2
    assert "unknown save_predictions 'left': known are test, training, all" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main([*given, "all"]) == 2
    shown = capsys.readouterr().err
    assert "--save_predictions needs torchmetrics: pip install 'dg-batchformer[metrics]'" in shown
    assert "--save_predictions needs pyarrow: pip install 'dg-batchformer[parquet]'" in shown
    assert not (tmp_path / "run").exists()
