"""State dicts against DomainBed's keys and shapes, and weights that cannot be loaded."""

import pytest
import torch
import torchvision

from dg_batchformer.networks import describe, has_free_batch_norm, make_classifier, make_featurizer

RESNET = {
    "resnet18": True,
    "resnet50_augmix": False,
    "freeze_bn": False,
    "resnet_dropout": 0.0,
    "weights": None,
}


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_28_pixel_cnn_has_domainbeds_state():
    plan = [(1, 64), (64, 128), (128, 128), (128, 128)]
    expected = {}
    for i, (n_in, n_out) in enumerate(plan, start=1):
        expected |= {f"conv{i}.weight": (n_out, n_in, 3, 3), f"conv{i}.bias": (n_out,)}
    for i, (_, n_out) in enumerate(plan):
        expected |= {f"bn{i}.weight": (n_out,), f"bn{i}.bias": (n_out,)}
    featurizer = make_featurizer((1, 28, 28), {})
    assert shapes(featurizer) == expected
    assert featurizer(torch.randn(2, 1, 28, 28)).shape == (2, featurizer.n_outputs) == (2, 128)


def test_wide_resnet_has_domainbeds_state():
    expected = {"conv1.weight": (16, 3, 3, 3), "conv1.bias": (16,)}

    def norm(name, n):
        return {f"{name}.{k}": (n,) for k in ("weight", "bias", "running_mean", "running_var")} | {
            f"{name}.num_batches_tracked": ()
        }

    widths = [16, 32, 64, 128]
    for layer in (1, 2, 3):
        for block in (0, 1):
            n_in, n_out = widths[layer - 1] if block == 0 else widths[layer], widths[layer]
            at = f"layer{layer}.{block}"
            expected |= norm(f"{at}.bn1", n_in) | norm(f"{at}.bn2", n_out)
            expected |= {f"{at}.conv1.weight": (n_out, n_in, 3, 3), f"{at}.conv1.bias": (n_out,)}
            expected |= {f"{at}.conv2.weight": (n_out, n_out, 3, 3), f"{at}.conv2.bias": (n_out,)}
            if block == 0:
                expected |= {f"{at}.shortcut.0.weight": (n_out, n_in, 1, 1), f"{at}.shortcut.0.bias": (n_out,)}
    expected |= norm("bn1", 128)
    featurizer = make_featurizer((3, 32, 32), {})
    assert shapes(featurizer) == expected
    assert featurizer(torch.randn(2, 3, 32, 32)).shape == (2, 128)
    assert featurizer.bn1.momentum == 0.9


def test_mlp_has_domainbeds_state():
    featurizer = make_featurizer((5,), {"mlp_width": 8, "mlp_depth": 4, "mlp_dropout": 0.1})
    expected = {"input.weight": (8, 5), "input.bias": (8,), "output.weight": (8, 8), "output.bias": (8,)}
    expected |= {f"hiddens.{i}.weight": (8, 8) for i in (0, 1)} | {f"hiddens.{i}.bias": (8,) for i in (0, 1)}
    assert shapes(featurizer) == expected
    assert featurizer(torch.randn(3, 5)).shape == (3, 8)


@pytest.mark.parametrize(("small", "name", "width"), [(True, "resnet18", 512), (False, "resnet50", 2048)])
def test_resnet_has_domainbeds_state(small, name, width):
    featurizer = make_featurizer((3, 224, 224), {**RESNET, "resnet18": small})
    published = shapes(torchvision.models.get_model(name, weights=None))
    expected = {f"network.{key}": shape for key, shape in published.items() if not key.startswith("fc.")}
    assert shapes(featurizer) == expected
    assert featurizer.n_outputs == width
    assert describe(featurizer, {"weights": None}) == {"backbone": name, "weights": "random", "batch_norm": "free"}


def test_resnet_features_and_dropout():
    featurizer = make_featurizer((3, 224, 224), {**RESNET, "resnet_dropout": 0.5}).eval()
    x = torch.randn(2, 3, 224, 224)
    features = featurizer(x)
    assert features.shape == (2, 512)
    featurizer.dropout.train()
    dropped = featurizer(x)
    assert ((dropped == 0) | torch.isclose(dropped, 2 * features, rtol=1e-4)).all()
    assert 0.3 < (dropped == 0).float().mean() < 0.7


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_is_frozen_or_free(frozen):
    featurizer = make_featurizer((3, 224, 224), {**RESNET, "freeze_bn": frozen})
    assert featurizer.train() is featurizer
    before = featurizer.network.bn1.running_mean.clone()
    featurizer(torch.randn(2, 3, 224, 224))
    assert torch.equal(featurizer.network.bn1.running_mean, before) == frozen
    assert has_free_batch_norm(featurizer) != frozen
    assert featurizer.network.bn1.weight.requires_grad
    assert describe(featurizer, RESNET)["batch_norm"] == ("frozen" if frozen else "free")


def test_other_channels_repeat_the_filters():
    torch.manual_seed(1)
    colours = make_featurizer((3, 224, 224), RESNET).network.conv1.weight
    torch.manual_seed(1)
    five = make_featurizer((5, 224, 224), RESNET).network.conv1.weight
    assert five.shape == (64, 5, 7, 7)
    assert torch.equal(five, colours[:, [0, 1, 2, 0, 1]])


def test_small_images_have_a_network_of_four_heads_width():
    for size in (8, 16, 27):
        featurizer = make_featurizer((1, size, size), {})
        assert featurizer(torch.randn(2, 1, size, size)).shape == (2, 64)


def test_nonlinear_classifier_is_domainbeds():
    assert shapes(make_classifier(16, 3, nonlinear=True)) == {
        "0.weight": (8, 16),
        "0.bias": (8,),
        "2.weight": (4, 8),
        "2.bias": (4,),
        "4.weight": (3, 4),
        "4.bias": (3,),
    }


@pytest.mark.parametrize("wrapped", [True, False])
def test_weights_of_a_file_are_loaded(tmp_path, wrapped):
    published = torchvision.models.resnet18(weights=None)
    state = {f"module.{name}": value for name, value in published.state_dict().items()} if wrapped else None
    torch.save({"state_dict": state} if wrapped else published.state_dict(), tmp_path / "w.pth")
    featurizer = make_featurizer((3, 224, 224), {**RESNET, "weights": str(tmp_path / "w.pth")})
    assert torch.equal(featurizer.network.layer4[1].conv2.weight, published.layer4[1].conv2.weight)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    hparams = {**RESNET, "weights": str(path)}
    with pytest.raises(ValueError, match="expected 'imagenet', null or an existing file"):
        make_featurizer((3, 224, 224), hparams)
    path.write_text("no tensors")
    with pytest.raises(ValueError, match="cannot be read as a state_dict"):
        make_featurizer((3, 224, 224), hparams)
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(ValueError, match=r"does not fit the backbone.*unexpected"):
        make_featurizer((3, 224, 224), hparams)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds no state_dict"):
        make_featurizer((3, 224, 224), hparams)


def test_imagenet_weights_without_internet_say_what_to_do(monkeypatch):
    from urllib.error import URLError

    def offline(self, *args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", offline)
    with pytest.raises(ValueError, match=r"no route.*resnet18.*\.pth.*hparam 'weights'.*null for a random start"):
        make_featurizer((3, 224, 224), {**RESNET, "weights": "imagenet"})


def test_imagenet_weights_are_version_1(monkeypatch):
    published = torchvision.models.resnet18(weights=None).state_dict()
    asked = []

    def stored(self, *args, **kwargs):
        asked.append(self.name)
        return published

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", stored)
    featurizer = make_featurizer((3, 224, 224), {**RESNET, "weights": "imagenet"})
    assert asked == ["IMAGENET1K_V1"]
    assert torch.equal(featurizer.network.conv1.weight, published["conv1.weight"])
    assert describe(featurizer, {"weights": "imagenet"})["weights"] == "imagenet"


def test_a_broken_download_is_said(monkeypatch):
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda self, **kwargs: {"conv1.weight": 1})
    with pytest.raises(ValueError, match=r"could not be loaded.*delete a broken download from .*checkpoints"):
        make_featurizer((3, 224, 224), {**RESNET, "weights": "imagenet"})


def test_a_foreign_backbone_is_described_by_what_can_be_seen():
    foreign = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    assert describe(foreign, {}) == {"backbone": "Sequential", "weights": "unknown", "batch_norm": "free"}
    foreign[1].eval()
    assert describe(foreign, {"weights": "imagenet"})["batch_norm"] == "frozen"
    assert describe(foreign, {"weights": "imagenet"})["weights"] == "unknown"
    assert describe(make_featurizer((1, 28, 28), {}), {})["weights"] == "random"


def test_one_backbone_is_asked_for():
    with pytest.raises(ValueError, match="expected one backbone"):
        make_featurizer((3, 224, 224), {**RESNET, "resnet50_augmix": True})


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 7, 7), (3, 28, 30)])
def test_unknown_input_shape_is_refused(shape):
    with pytest.raises(ValueError, match="input_shape"):
        make_featurizer(shape, RESNET)
