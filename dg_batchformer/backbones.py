"""Featurizers that are pretrained networks: torchvision's ResNets and the models of timm.

Their inputs are images normalised with ImageNet's mean and standard deviation, as all data of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dg_batchformer.cut import cut
from dg_batchformer.data.augment import MEAN, STD
from dg_batchformer.errors import InputError, first_line
from dg_batchformer.hparams import require
from dg_batchformer.weights import TIMM, backbone_name, load_backbone


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """The batch norms in a module."""
    return [one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]


class Backbone(nn.Module):
    """A pretrained network without its classifier, batch norm frozen or free, dropout on the features.

    hparams: `backbone`, or DomainBed's `resnet18` and `resnet50_augmix`; `weights`; `freeze_bn` (running statistics
    stay as loaded; scale and shift are trained); `resnet_dropout`; `image_size`, to which images are resized. `prepare`
    makes the network's inputs from images. Raises InputError for a backbone that does not exist or does not fit the
    images.

    Shape: (N, *input_shape) to (N, n_outputs), with input_shape (channels, height, width).
    """

    n_outputs: int

    def __init__(self, input_shape: tuple[int, ...], hparams: Mapping[str, Any]) -> None:
        super().__init__()
        self.name = backbone_name(hparams)
        if len(input_shape) != 3:
            raise InputError(f"the backbone {self.name} takes images: expected 3 dimensions, got {input_shape}")
        self.network = load_backbone(hparams)
        size = hparams.get("image_size")
        self.prepare: nn.Module = AdaptImages(MEAN, STD, (size, size) if size else None)
        self.frozen = bool(require(hparams, "freeze_bn"))
        self.dropout = nn.Dropout(require(hparams, "resnet_dropout"))

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Modules with outputs (N, C, H, W), the shallowest first: `layer1` to `layer4` have strides 4 to 32."""
        raise NotImplementedError

    def _existing(self, paths: Mapping[str, str]) -> dict[str, nn.Module]:
        """The modules at these paths, without those that were cut off."""
        known = dict(self.network.named_modules())
        return {name: known[path] for name, path in paths.items() if path in known}

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.network(self.prepare(x)))

    def cut(self, path: str) -> nn.Module:
        """Keeps what follows the module `path` of the network; returns the rest, from images to that module's output.

        Raises InputError if the network cannot be cut there.
        """
        before, after = cut(self.network, path)
        first = nn.Sequential(self.prepare, before)
        self.network, self.prepare = after, nn.Identity()
        self.name = f"{self.name}, frozen until {path}"
        return first

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        if self.frozen:
            for norm in batch_norms(self.network):
                norm.eval()
        return self


class ResNet(Backbone):
    """ResNet-18 or -50 (He et al., CVPR 2016) for images of any size and number of channels."""

    def __init__(self, input_shape: tuple[int, ...], hparams: Mapping[str, Any]) -> None:
        super().__init__(input_shape, hparams)
        self.n_outputs = self.network.fc.in_features
        self.network.fc = nn.Identity()
        if input_shape[0] != 3:
            self._adapt_channels(input_shape[0])
        self.train()

    @property
    def stages(self) -> dict[str, nn.Module]:
        return self._existing({f"layer{i}": f"layer{i}" for i in range(1, 5)})

    def _adapt_channels(self, channels: int) -> None:
        """Repeats the filters of the three colours over the channels of the input, as DomainBed does."""
        colours = self.network.conv1.weight.data
        self.network.conv1 = nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False)
        self.network.conv1.weight.data = colours[:, [i % 3 for i in range(channels)]].clone()


class TimmBackbone(Backbone):
    """A model of timm (Wightman, https://github.com/huggingface/pytorch-image-models) for colour images.

    Images are normalised again with the model's mean and standard deviation, and resized if the model has a fixed
    input size, as most vision transformers do. The stages are those of timm's `feature_info` from stride 4 on; a model
    without maps, such as a vision transformer, has none.
    """

    def __init__(self, input_shape: tuple[int, ...], hparams: Mapping[str, Any]) -> None:
        super().__init__(input_shape, hparams)
        if input_shape[0] != 3:
            raise InputError(f"the backbone {self.name} takes images of 3 channels: got {input_shape}")
        config = self.network.pretrained_cfg
        if config.get("tag"):
            # timm chooses weights, mean and std for a name without a tag: the full name records that choice.
            self.name = f"{TIMM}{config['architecture']}.{config['tag']}"
        size, given = config["input_size"][1:], hparams.get("image_size")
        if config.get("fixed_input_size") and given not in (None, size[0]):
            raise InputError(f"hparam 'image_size' is {given}: the backbone {self.name} takes images of {size[0]} only")
        own = (given, given) if given else tuple(size) if config.get("fixed_input_size") else None
        self.prepare = AdaptImages(config["mean"], config["std"], own)
        self.network.reset_classifier(0)
        self.n_outputs, self.stage_paths = self._survey(input_shape)
        self.train()

    @property
    def stages(self) -> dict[str, nn.Module]:
        return self._existing(self.stage_paths)

    @torch.no_grad()
    def _survey(self, input_shape: tuple[int, ...]) -> tuple[int, dict[str, str]]:
        """Width of the features and paths of the stages, found with a blank image."""
        info = getattr(self.network, "feature_info", [])
        widths = {entry["module"]: entry["num_chs"] for entry in info if entry["reduction"] >= 4}
        maps: list[str] = []

        def note(path: str, output: Any) -> None:
            # Tokens are (N, length, C); some transformers have maps (N, H, W, C).
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == widths[path]:
                maps.append(path)

        hooks = [
            self.network.get_submodule(path).register_forward_hook(lambda _, __, output, path=path: note(path, output))
            for path in widths
        ]
        self.eval()
        try:
            features = self(torch.zeros(1, *input_shape))
        except Exception as error:  # any error of the model, for images that are too small
            raise InputError(
                f"the backbone {self.name} cannot take images of shape {input_shape}: {first_line(error)}"
            ) from error
        for hook in hooks:
            hook.remove()
        if features.ndim != 2:
            raise InputError(f"the backbone {self.name} gives {tuple(features.shape)} for one image: expected (1, C)")
        return features.shape[1], {f"layer{i}": path for i, path in enumerate(maps, start=1)}


class AdaptImages(nn.Module):
    """Converts images normalised with ImageNet's mean and standard deviation to another normalisation and size.

    `size` (height, width) may be None. Adds nothing to the `state_dict`.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: tuple[int, ...] | None) -> None:
        super().__init__()
        now, then = (torch.tensor(values, dtype=torch.float64) for values in ((MEAN, STD), (mean, std)))
        scale, shift = now[1] / then[1], (now[0] - then[0]) / then[1]
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.float().view(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(3, 1, 1), persistent=False)
        self.size, self.changes = size, not (torch.equal(now, then))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale + self.shift if self.changes else x
        if self.size is None or x.shape[2:] == self.size:
            return x
        return F.interpolate(x, self.size, mode="bilinear", antialias=True)


def make_backbone(input_shape: tuple[int, ...], hparams: Mapping[str, Any]) -> Backbone:
    """The backbone of these hparams, as a featurizer of images (channels, height, width)."""
    cls = TimmBackbone if backbone_name(hparams).startswith(TIMM) else ResNet
    return cls(input_shape, hparams)


@torch.no_grad()
def fold_batch_norms(network: nn.Module, x: Tensor) -> None:
    """Folds each batch norm that directly follows a convolution into it: faster, for a network that is not trained.

    `x` is a batch of inputs, with which both are run: if the outputs differ by more than rounding, nothing is folded.
    """
    modules = dict(network.named_modules())
    made: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []

    def note(name: str, inputs: Tensor, output: Tensor) -> None:
        if isinstance(modules[name], nn.Conv2d):
            made[id(output)] = name, output  # kept, so that no other tensor gets its id
        elif id(inputs) in made:
            pairs.append((made[id(inputs)][0], name))

    own = [name for name, module in modules.items() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [
        modules[name].register_forward_hook(lambda _, inputs, output, name=name: note(name, inputs[0], output))
        for name in own
    ]
    expected = network(x)
    for hook in hooks:
        hook.remove()
    for convolution, norm in pairs:
        network.set_submodule(convolution, fuse_conv_bn_eval(modules[convolution], modules[norm]))
        # timm's batch norm has an activation.
        following = [getattr(modules[norm], name) for name in ("drop", "act") if hasattr(modules[norm], name)]
        network.set_submodule(norm, nn.Sequential(*following))
    if not torch.allclose(network(x), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
        for name in {name for pair in pairs for name in pair}:
            network.set_submodule(name, modules[name])
