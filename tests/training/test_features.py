"""Frozen backbones: features are the backbone's, computed once, and everything but MixStyle trains on them."""

import json

import pytest
import torch
from factories import CLASSES, image_tree

from dg_batchformer import cli, default_hparams, get_algorithm_class
from dg_batchformer.backbones import make_backbone
from dg_batchformer.data import load_dataset
from dg_batchformer.training import setup

HPARAMS = {"freeze_backbone": True, "backbone": "resnet18", "weights": None, "head_widths": [16, 8], "batch_size": 4}


@pytest.fixture
def images(tmp_path):
    return f"folder:{image_tree(tmp_path / 'mine')}"


def hparams(**given):
    return {**default_hparams("ERM", "PACS"), **HPARAMS, **given}


def test_they_are_the_backbones_in_evaluation_mode(images):
    dataset = load_dataset(images)
    frozen = setup.with_features(dataset, hparams())
    torch.manual_seed(0)
    backbone = make_backbone((3, 224, 224), hparams()).eval()
    for own, environment in zip(frozen.environments, dataset.environments, strict=True):
        indices = torch.arange(len(environment.labels))
        with torch.no_grad():
            expected = backbone(environment.inputs(indices))
        assert own.n_draws == 0
        torch.testing.assert_close(own.inputs(indices), expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(own.labels, environment.labels)
    assert frozen.input_shape == (512,)
    assert frozen.fingerprint == dataset.fingerprint != ""
    assert setup.with_features(dataset, hparams(freeze_backbone=False)) is dataset


def test_they_are_computed_once_for_each_backbone_and_weights(images, tmp_path, monkeypatch):
    computed = []
    monkeypatch.setattr(setup, "compute_features", lambda *args: (computed.append(1), torch.rand(24, 512))[1])
    torch.save({}, tmp_path / "weights.pth")
    for given, n in (({}, 1), ({}, 1), ({"backbone": "resnet50"}, 2), ({"weights": str(tmp_path / "weights.pth")}, 3)):
        setup.with_features(load_dataset(images), hparams(**given))
        assert len(computed) == n
    torch.save({"other": torch.zeros(1)}, tmp_path / "weights.pth")
    setup.with_features(load_dataset(images), hparams(weights=str(tmp_path / "weights.pth")))
    assert len(computed) == 4


def test_computing_disturbs_no_generator(images):
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    setup.with_features(load_dataset(images), hparams())
    assert torch.rand(()) == expected


@pytest.mark.parametrize("algorithm", ["ERM_BatchFormer", "CORAL", "SWAD_BatchFormer"])
def test_a_run_and_its_model(images, tmp_path, algorithm, capsys):
    argv = ["train", "--dataset", images, "--algorithm", algorithm, "--steps", "3", "--hparams", json.dumps(HPARAMS)]
    assert cli.main([*argv, "--output_dir", str(tmp_path / "run")]) == 0
    record = json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[-1])
    assert (record["backbone"], record["weights"], record["batch_norm"]) == ("resnet18, frozen", "random", "none")
    saved = torch.load(tmp_path / "run" / "model.pkl", weights_only=True)
    assert saved["model_input_shape"] == (512,)
    shape = (saved["model_input_shape"], saved["model_num_classes"], saved["model_num_domains"])
    model = get_algorithm_class("ERM")(*shape, saved["model_hparams"])
    model.load_state_dict(saved["model_dict"])
    assert model.predict(torch.rand(1, 512)).shape == (1, 2)


def test_a_sweep_on_them(images, tmp_path, capsys):
    argv = ["sweep", "launch", "--datasets", images, "--algorithms", "ERM", "ERM_BatchFormer", "--n_trials", "1"]
    argv += ["--n_hparams", "1", "--steps", "2", "--hparams", json.dumps(HPARAMS), "--skip_confirmation"]
    assert cli.main([*argv, "--output_dir", str(tmp_path / "sweep")]) == 0
    assert "6 runs: 6 done" in capsys.readouterr().out


def test_mixstyle_is_refused(images, tmp_path, capsys):
    argv = ["train", "--dataset", images, "--algorithm", "MixStyle", "--hparams", json.dumps(HPARAMS)]
    assert cli.main([*argv, "--output_dir", str(tmp_path / "run")]) == 2
    assert "expected some of no stage, the stages of Head that give maps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        ((512,), {"head_widths": []}, r"'head_widths' is \[\]: expected a list of widths"),
        ((512,), {"head_widths": [0]}, r"'head_widths' is \[0\]"),
        ((512,), {"head_widths": [8.5]}, r"'head_widths' is \[8.5\]"),
        ((3, 224, 224), {}, r"'freeze_backbone' is for features \(D,\) of its backbone: got inputs \(3, 224, 224\)"),
    ],
)
def test_wrong_hparams_are_named(shape, given, message):
    with pytest.raises(ValueError, match=message):
        get_algorithm_class("ERM")(shape, CLASSES, 3, hparams(**given))
