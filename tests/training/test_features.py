"""Frozen backbones: features are the backbone's, computed once, and everything but MixStyle trains on them."""

import json
from types import SimpleNamespace

import pytest
import torch
import torchvision
from factories import CLASSES, image_tree

from dg_batchformer import cli, default_hparams, get_algorithm_class
from dg_batchformer.backbones import make_backbone
from dg_batchformer.data import load_dataset
from dg_batchformer.data.environments import augmentation
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash
from dg_batchformer.runs import run_in
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.training import features
from dg_batchformer.training.prediction import predict, quality

HPARAMS = {"freeze_backbone": True, "backbone": "resnet18", "weights": None, "head_widths": [16, 8], "batch_size": 4}


@pytest.fixture
def images(tmp_path):
    return f"folder:{image_tree(tmp_path / 'mine')}"


def hparams(**given):
    return {**default_hparams("ERM", "PACS"), **HPARAMS, **given}


def test_they_are_the_backbones_in_evaluation_mode(images):
    dataset = load_dataset(images)
    frozen = features.with_features(dataset, hparams())
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
    assert features.with_features(dataset, hparams(freeze_backbone=False)) is dataset


def counted(monkeypatch):
    """The sizes of the batches that a frozen part computes from now on."""
    original, found = features.of_samples, []

    def of_samples(frozen, dataset, samples, *args):
        found.append(len(samples.indices))
        return original(frozen, dataset, samples, *args)

    monkeypatch.setattr(features, "of_samples", of_samples)
    return found


def test_they_are_computed_once_for_each_backbone_weights_size_and_cut(images, tmp_path, monkeypatch):
    computed = counted(monkeypatch)
    for name, seed in (("weights", 1), ("other", 2)):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / f"{name}.pth")
    own = {"weights": str(tmp_path / "weights.pth")}
    until = {"freeze_backbone": False, "freeze_until": "layer3"}
    for given, n in (
        ({}, 1),
        ({}, 1),
        ({"image_size": 64}, 2),
        (own, 3),
        (own | until, 4),
        (own | until | {"freeze_until": "layer2"}, 5),
        (own | until, 5),
    ):
        features.with_features(load_dataset(images), hparams(**given))
        assert sum(computed) == 24 * n
    (tmp_path / "other.pth").rename(tmp_path / "weights.pth")
    features.with_features(load_dataset(images), hparams(**own))
    assert sum(computed) == 24 * 6


def test_an_interruption_loses_one_part(images, monkeypatch):
    monkeypatch.setattr(features, "PART", 1)
    monkeypatch.setitem(features.EVALUATION_BATCH, "cpu", 4)
    whole = features.with_features(load_dataset(images), hparams(weights=None))
    computed, dataset = counted(monkeypatch), load_dataset(images)
    (file,) = dataset.cache.glob("features-*.npy")
    file.rename(dataset.cache / "moved.npy")
    parts = features.computed(dataset, hparams(), 0, folder=(file.with_suffix(".parts")))
    file.with_suffix(".parts").mkdir()
    for _ in range(4):
        next(parts)
    parts.close()
    assert computed == [4] * 4
    again = features.with_features(load_dataset(images), hparams())
    assert computed == [4] * 6
    for one, other in zip(whole.environments, again.environments, strict=True):
        assert torch.equal(one.images, other.images)
    assert not list(dataset.cache.glob("*part*"))


@pytest.mark.parametrize("frozen", [{}, {"freeze_backbone": False, "freeze_until": "layer3", "image_size": 64}])
def test_augmented_views(images, frozen):
    """Views are what the frozen part makes of augmented images; a step draws one of them for each sample."""
    dataset = load_dataset(images)
    found = features.with_features(dataset, hparams(**frozen, feature_views=3))
    plain = features.with_features(dataset, hparams(**frozen))
    part = features.frozen_part(dataset, hparams(**frozen))
    one, indices = found.environments[1], torch.arange(8)
    assert one.views.shape == (8, 3, *one.images.shape[1:])
    assert torch.equal(one.inputs(indices), plain.environments[1].inputs(indices))
    for view in range(3):
        seed = seed_hash("feature view", view, 1, 0)
        draws = augmentation(dataset.environments[1], 8, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            expected = part(dataset.environments[1].inputs(indices, draws))
        drawn = one.inputs(indices, torch.full((8, 1), (view + 0.5) / 3))
        torch.testing.assert_close(drawn, expected, rtol=1e-2, atol=1e-2)  # bfloat16
    assert not torch.allclose(one.views[:, 0].float(), one.images.float(), rtol=1e-2, atol=1e-2)
    # The first views are the same, however many there are.
    more = features.with_features(dataset, hparams(**frozen, feature_views=4)).environments[1]
    assert torch.equal(more.views[:, :3], one.views)


@pytest.mark.parametrize("algorithm", ["ERM_BatchFormer", "MixStyle", "SWAD_BatchFormer"])
def test_a_run_with_a_part_frozen(images, tmp_path, algorithm):
    """On maps, with views; what its model predicts is what the last record says."""
    given = {"backbone": "resnet18", "weights": None, "batch_size": 2, "image_size": 64, "feature_views": 2}
    given |= {"freeze_until": "layer2"} | ({"mixstyle_layers": ["layer3"]} if algorithm == "MixStyle" else {})
    argv = ["train", "--dataset", images, "--algorithm", algorithm, "--steps", "3", "--hparams", json.dumps(given)]
    assert cli.main([*argv, "--output_dir", str(tmp_path / "run")]) == 0
    record = json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[-1])
    assert record["backbone"] == "resnet18, frozen until layer2, 64 px, 2 augmented views"
    assert torch.load(tmp_path / "run" / "model.pkl", weights_only=True)["model_input_shape"] == (128, 8, 8)
    for one in predict(run_in(RunFolder(tmp_path / "run")), "model.pkl", 0):
        assert quality(one.logits, one.labels).accuracy == pytest.approx(record[f"env0_{one.split}_acc"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"freeze_until": "layer2"}, "'freeze_backbone' and 'freeze_until' contradict each other"),
        ({"freeze_backbone": False, "feature_views": 2}, "'feature_views' needs 'freeze_backbone' or 'freeze_until'"),
        ({"freeze_backbone": False, "freeze_until": "layr2"}, "unknown module of the backbone 'layr2': did you mean "),
    ],
)
def test_hparams_that_contradict_each_other(images, given, message):
    with pytest.raises(InputError, match=message):
        features.with_features(load_dataset(images), hparams(**given))


def test_views_are_for_images():
    with pytest.raises(InputError, match="'feature_views' is for images that are augmented, not for RotatedDigits"):
        features.with_features(load_dataset("RotatedDigits"), hparams(feature_views=2))


def test_maps_that_do_not_fit_the_disk(images, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10_000_000))
    with pytest.raises(InputError, match=r"the kept maps need 0.* GB, .* has 0.0 GB left: expected a later module"):
        features.with_features(load_dataset(images), hparams(freeze_backbone=False, freeze_until="layer1"))


def test_computing_disturbs_no_generator(images):
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    features.with_features(load_dataset(images), hparams())
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
