"""Weights files of MoCo, DINO, DINOv2 and CLIP go into the networks of timm and torchvision."""

import argparse
import warnings

import pytest
import torch
import torchvision

from dg_batchformer.backbones import make_backbone
from dg_batchformer.data.augment import MEAN, STD
from dg_batchformer.errors import InputError
from dg_batchformer.weight_formats import CLIP, format_of, read_state
from dg_batchformer.weights import load_file

SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8, "num_classes": 0}


@pytest.fixture
def vit():
    """Makes small vision transformers, each with other random weights."""
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    return lambda **options: timm.create_model("test_vit", **{**SMALL, **options})


def resnet():
    return torchvision.models.resnet18(weights=None)


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def moco(prefix, network):
    """A checkpoint of MoCo: a head of two layers in place of the classifier, and what else is trained."""
    state = {name: value for name, value in network.state_dict().items() if not name.startswith(("fc.", "head."))}
    classifier = "fc" if hasattr(network, "fc") else "head"
    head = {f"{classifier}.0.weight": torch.zeros(4, 4), f"{classifier}.2.bias": torch.zeros(4)}
    others = {"module.queue": torch.zeros(2, 2), "module.momentum_encoder.conv1.weight": torch.zeros(1)}
    return {"epoch": 3, "state_dict": {**prefixed(prefix, {**state, **head}), **others}, "optimizer": {"state": {}}}


def dino(network):
    """A whole checkpoint of DINO, which has the arguments of its script."""
    student, teacher = (prefixed(f"{outer}backbone.", network.state_dict()) for outer in ("module.", ""))
    student = {name: torch.zeros_like(value) for name, value in student.items()}
    head = {"head.mlp.0.weight": torch.zeros(2, 2)}
    return {
        "student": student,
        "teacher": {**teacher, **head},
        "args": argparse.Namespace(arch="vit_small"),
        "epoch": 1,
    }


def dinov2(network):
    return {**network.state_dict(), "mask_token": torch.zeros(1, 16)}


def clip(network):
    """The state of CLIP with the image tower `network`, in half precision as published, and a text tower."""
    names = {
        "patch_embed.proj.weight": "conv1.weight",
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "norm_pre": "ln_pre",
        "norm.": "ln_post.",
        "blocks": "transformer.resblocks",
        ".norm": ".ln_",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    state = {}
    for name, value in network.state_dict().items():
        for ours, theirs in names.items():
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
            name = name.replace(ours, theirs) if ours.startswith((".", "attn", "mlp")) else name
        state[f"visual.{name}"] = (value.flatten(0, -2).squeeze(0) if "embedding" in name else value).half()
    text = {
        "token_embedding.weight": torch.zeros(9, 4),
        "logit_scale": torch.tensor(1.0),
        "positional_embedding": torch.zeros(3, 4),
    }
    return {**state, "visual.proj": torch.zeros(16, 8), **text}


def check(network, given, path, content):
    """Loads a checkpoint into `network`, which then is `given` up to half precision."""
    torch.save(content, path)
    load_file(network, path)
    for name, value in given.state_dict().items():
        if not name.startswith(("fc.", "head.")):
            torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prefix", ["module.encoder_q.", "module.base_encoder."])
def test_moco_of_resnets(tmp_path, prefix):
    given = resnet()
    check(resnet(), given, tmp_path / "w.pth", moco(prefix, given))


def test_dino_of_resnets(tmp_path):
    given = resnet()
    check(resnet(), given, tmp_path / "w.pth", dino(given))


@pytest.mark.parametrize(
    ("name", "made", "options", "normalisation"),
    [
        ("MoCo v3", lambda network: moco("module.base_encoder.", network), {}, (MEAN, STD)),
        ("DINO", dino, {}, (MEAN, STD)),
        ("DINOv2", dinov2, {"init_values": 1e-5}, (MEAN, STD)),
        ("CLIP", clip, {"pre_norm": True, "norm_layer": torch.nn.LayerNorm}, CLIP),
    ],
)
def test_vision_transformers_and_their_normalisation(vit, tmp_path, name, made, options, normalisation):
    given, network = vit(**options), vit(**options)
    network.pretrained_cfg.update(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    check(network, given, tmp_path / "w.pth", made(given))
    assert (network.pretrained_cfg["mean"], network.pretrained_cfg["std"]) == normalisation
    found = format_of(read_state(tmp_path / "w.pth"))
    assert found is not None
    assert found.name == name


def test_own_names_keep_the_networks_normalisation(vit, tmp_path):
    given, network = vit(), vit()
    network.pretrained_cfg.update(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    check(network, given, tmp_path / "w.pth", given.state_dict())
    assert network.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)


def test_a_backbone_normalises_its_images_as_the_file_asks(tmp_path):
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    torch.save(prefixed("module.base_encoder.", timm.create_model("test_vit").state_dict()), tmp_path / "w.pth")
    hparams = {"backbone": "timm:test_vit", "resnet18": False, "resnet50_augmix": False, "freeze_bn": False}
    shifts = []
    for weights in (None, str(tmp_path / "w.pth")):
        backbone = make_backbone((3, 160, 160), {**hparams, "resnet_dropout": 0.0, "weights": weights})
        shifts.append(float(backbone.prepare.shift.abs().max()))
    assert shifts[0] > 0.05  # the model's own are 0.5
    assert shifts[1] == 0  # those of ImageNet, as the data have


def test_a_torchscript_archive_is_read(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(1, 2)).save(str(tmp_path / "w.pt"))
    state = read_state(tmp_path / "w.pt")
    assert state.keys() == network.state_dict().keys()
    assert torch.equal(state["0.weight"], network[0].weight)


def test_what_does_not_fit_is_named(vit, tmp_path):
    torch.save(clip(vit(pre_norm=True)), tmp_path / "clip.pth")
    with pytest.raises(InputError, match="weights of CLIP do not fit this backbone: expected a model of timm"):
        load_file(resnet(), tmp_path / "clip.pth")
    torch.save(moco("module.encoder_q.", resnet()), tmp_path / "moco.pth")
    with pytest.raises(InputError, match=r"moco.pth \(MoCo v2\) does not fit the backbone: \d+ names missing"):
        load_file(vit(), tmp_path / "moco.pth")
