"""ResNets with the weights that hparams ask for: ImageNet's, those of a file, or random ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from dg_batchformer.errors import InputError, first_line
from dg_batchformer.hparams import require


def resnet_name(hparams: Mapping[str, Any]) -> str:
    """The ResNet that hparams ask for: "resnet18", "resnet50" or "resnet50.ram_in1k"."""
    small, augmix = require(hparams, "resnet18"), require(hparams, "resnet50_augmix")
    if small and augmix:
        raise InputError("hparams 'resnet18' and 'resnet50_augmix' are both true: expected one backbone")
    return "resnet18" if small else "resnet50.ram_in1k" if augmix else "resnet50"


def load_resnet(name: str, weights: str | None) -> Any:
    """ResNet `name` with ImageNet weights, those of a file, or (None) random ones.

    Weights that cannot be had are an InputError that says what to do, never a silent random start.
    """
    if name == "resnet50.ram_in1k":
        return _load_augmix(weights)
    network = torchvision.models.get_model(name, weights=None)
    if weights == "imagenet":
        # V1, as in DomainBed and in the tables of the literature; V2 is another training recipe.
        published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        try:
            network.load_state_dict(published.get_state_dict(progress=True))
        except Exception as error:  # no connection, or what an earlier one left behind broken
            raise InputError(
                f"the ImageNet weights of {name} could not be loaded ({first_line(error)}): without internet, fetch "
                f"{published.url} elsewhere and give its path as hparam 'weights', or give null for a random start; "
                f"delete a broken download from {Path(torch.hub.get_dir()) / 'checkpoints'}"
            ) from error
    elif weights is not None:
        load_file(network, Path(weights))
    return network


def _load_augmix(weights: str | None) -> Any:
    try:
        import timm
    except ImportError as error:
        raise InputError("hparam 'resnet50_augmix' needs timm: pip install 'dg-batchformer[timm]'") from error
    try:
        network = timm.create_model("resnet50.ram_in1k", pretrained=weights == "imagenet")
    except Exception as error:
        raise InputError(
            f"the weights of resnet50.ram_in1k could not be loaded ({first_line(error)}): without internet, give a "
            "file as hparam 'weights', or null for a random start"
        ) from error
    if weights not in ("imagenet", None):
        load_file(network, Path(str(weights)))
    return network


def load_file(network: nn.Module, path: Path) -> None:
    """Loads a `state_dict` file into a backbone; its ImageNet classifier (`fc.*`) may be missing or differ."""
    if not path.is_file():
        raise InputError(f"hparam 'weights' is {str(path)!r}: expected 'imagenet', null or an existing file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"the weights file {path} cannot be read as a state_dict: {first_line(error)}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"the weights file {path} holds no state_dict: expected names and tensors")
    state = {name.removeprefix("module."): value for name, value in state.items()}
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    expected = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    other = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if missing or surplus or other:
        raise InputError(
            f"the weights file {path} does not fit the backbone: {len(missing)} names missing {missing[:3]}, "
            f"{len(surplus)} unexpected {surplus[:3]}, {len(other)} of another shape {sorted(other)[:3]}"
        )
    network.load_state_dict(state, strict=False)
