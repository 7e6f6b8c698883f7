"""Files of weights, and the names of self-supervised and image-text training in those of timm and torchvision.

MoCo v2 (Chen et al., 2020) and v3 (ICCV 2021), DINO (Caron et al., ICCV 2021), DINOv2 (Oquab et al., TMLR 2024), and
the image towers of CLIP (Radford et al., ICML 2021), OpenAI's and OpenCLIP's. What is not the image network is dropped.
"""

from __future__ import annotations

import argparse
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dg_batchformer.data.augment import MEAN, STD
from dg_batchformer.errors import InputError, first_line

State = Mapping[str, Tensor]

IMAGENET = (MEAN, STD)
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class Format(NamedTuple):
    """A format: one of its names begins with `mark`.

    In it the names of the network follow the mark, or timm converts them. `normalisation` is the mean and standard
    deviation of its images.
    """

    name: str
    mark: str
    by_timm: bool = False
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET


FORMATS = (
    Format("MoCo v2", "encoder_q."),
    Format("MoCo v3", "base_encoder."),
    Format("DINO", "backbone."),
    Format("CLIP", "visual.", by_timm=True, normalisation=CLIP),
    Format("DINOv2", "mask_token", by_timm=True),
)


def format_of(state: State) -> Format | None:
    """The format of a state, or None for the network's own names."""
    return next((one for one in FORMATS if any(name.startswith(one.mark) for name in state)), None)


def renamed(state: State, found: Format, network: nn.Module) -> dict[str, Tensor]:
    """The image network of a state in the names of `network`; InputError if timm does not convert it to that."""
    if not found.by_timm:
        return {name.removeprefix(found.mark): value for name, value in state.items() if name.startswith(found.mark)}
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        raise InputError(f"weights of {found.name} do not fit this backbone: expected a model of timm for them")
    return dict(convert(dict(state), network))


WRAPPERS = ("state_dict", "model", "teacher")
"""Names of a `state_dict` among other values of a checkpoint; DINO's teacher is the network to keep."""


def read_torch(path: Path) -> Any:
    """The content of a file of torch, tensors and plain values only, or the weights of a TorchScript archive."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit")  # OpenAI's CLIP is published so
        if is_script(path):
            return torch.jit.load(path, map_location="cpu").state_dict()
    with torch.serialization.safe_globals([argparse.Namespace]):  # checkpoints of DINO have their arguments
        return torch.load(path, map_location="cpu", weights_only=True)


def is_script(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_state(path: Path) -> dict[str, Tensor]:
    """The names and tensors of a `state_dict` file, torch's or safetensors'."""
    state: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            state = load_safetensors(path)
        else:
            state = read_torch(path)
    except Exception as error:
        raise InputError(f"the weights file {path} cannot be read as a state_dict: {first_line(error)}") from error
    for name in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"the weights file {path} holds no state_dict: expected names and tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}
