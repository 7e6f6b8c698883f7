"""Featurizers and classifiers with DomainBed's `state_dict` keys and shapes; and their optimizers.

A featurizer has `n_outputs`, the width of its features. One with convolutional stages has `stages`: the modules, by
name, after which MixStyle may stand.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from dg_batchformer.backbones import Backbone, batch_norms, make_backbone
from dg_batchformer.data.augment import SIZE
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import require
from dg_batchformer.weights import backbone_name

Shape = tuple[int, ...]


class MLP(nn.Module):
    """Multi-layer perceptron for inputs (N, D); hparams `mlp_width`, `mlp_depth` (at least 2), `mlp_dropout`."""

    def __init__(self, n_inputs: int, hparams: Mapping[str, Any]) -> None:
        super().__init__()
        width = require(hparams, "mlp_width")
        self.n_outputs = width
        self.input = nn.Linear(n_inputs, width)
        self.dropout = nn.Dropout(require(hparams, "mlp_dropout"))
        self.hiddens = nn.ModuleList(nn.Linear(width, width) for _ in range(require(hparams, "mlp_depth") - 2))
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.input, *self.hiddens):
            x = F.relu(self.dropout(layer(x)))
        return self.output(x)


def with_relu(*widths: int) -> list[nn.Module]:
    """Linear layers between consecutive widths, each followed by ReLU."""
    return [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]


class Head(nn.Module):
    """Layers with ReLU on the features (N, D) of a frozen backbone; hparam `head_widths`."""

    stages: Mapping[str, nn.Module] = {}

    def __init__(self, n_inputs: int, hparams: Mapping[str, Any]) -> None:
        super().__init__()
        widths = require(hparams, "head_widths")
        if not widths or not all(type(width) is int and width >= 1 for width in widths):
            raise InputError(f"hparam 'head_widths' is {widths}: expected a list of widths, such as [512, 256]")
        self.layers = nn.Sequential(*with_relu(n_inputs, *widths))
        self.n_outputs = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ConvNet(nn.Module):
    """Convolutions with ReLU and group norm, then a mean over the map; stage i is called `layer{i}`.

    `plan` has the output channels and stride of each convolution.
    """

    def __init__(self, input_shape: Shape, plan: list[tuple[int, int]]) -> None:
        super().__init__()
        channels = input_shape[0]
        self.depth = len(plan)
        for i, (width, stride) in enumerate(plan):
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels, width, 3, stride, padding=1))
            channels = width
        for i, (width, _) in enumerate(plan):
            self.add_module(f"bn{i}", nn.GroupNorm(8, width))
        self.n_outputs = channels

    @property
    def stages(self) -> dict[str, nn.Module]:
        return {f"layer{i + 1}": self.get_submodule(f"bn{i}") for i in range(self.depth)}

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.depth):
            x = self.get_submodule(f"bn{i}")(F.relu(self.get_submodule(f"conv{i + 1}")(x)))
        return x.mean(dim=(2, 3))


class WideBlock(nn.Module):
    """Pre-activation residual block of the wide ResNet (Zagoruyko & Komodakis, https://arxiv.org/abs/1605.07146)."""

    def __init__(self, n_inputs: int, n_outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_inputs)
        self.conv1 = nn.Conv2d(n_inputs, n_outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(n_outputs)
        self.conv2 = nn.Conv2d(n_outputs, n_outputs, 3, stride, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or n_inputs != n_outputs:
            self.shortcut.append(nn.Conv2d(n_inputs, n_outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return out + self.shortcut(x)


class WideResNet(nn.Module):
    """Wide ResNet of depth 16 and widening factor 2 for 32x32 images, features of width 128."""

    n_outputs = 128

    def __init__(self, input_shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 16, 3, padding=1)
        self.layer1 = nn.Sequential(WideBlock(16, 32, 1), WideBlock(32, 32, 1))
        self.layer2 = nn.Sequential(WideBlock(32, 64, 2), WideBlock(64, 64, 1))
        self.layer3 = nn.Sequential(WideBlock(64, 128, 2), WideBlock(128, 128, 1))
        self.bn1 = nn.BatchNorm2d(128, momentum=0.9)

    @property
    def stages(self) -> dict[str, nn.Module]:
        return {"layer1": self.layer1, "layer2": self.layer2, "layer3": self.layer3}

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return F.avg_pool2d(F.relu(self.bn1(x)), 8).flatten(1)


def make_featurizer(input_shape: Shape, hparams: Mapping[str, Any]) -> Any:
    """The featurizer for an input shape, (D,) or (channels, height, width).

    With hparam `freeze_backbone` a head on the features (D,) of that backbone; with `freeze_until` the rest of it, for
    maps; with `backbone` that network, for images of any size. Otherwise DomainBed's choice: (D,): MLP; 224x224:
    ResNet; 32x32: wide ResNet; 28x28: DomainBed's CNN; below 28: a smaller CNN.
    """
    size = input_shape[1:]
    if hparams.get("freeze_backbone"):
        if len(input_shape) != 1:
            raise InputError(f"hparam 'freeze_backbone' is for features (D,) of its backbone: got inputs {input_shape}")
        return Head(input_shape[0], hparams)
    if path := hparams.get("freeze_until"):
        backbone = make_backbone((3, SIZE, SIZE), hparams)
        backbone.cut(path)
        return backbone
    if size == (224, 224) or hparams.get("backbone") is not None:
        return make_backbone(input_shape, hparams)
    if len(input_shape) == 1:
        return MLP(input_shape[0], hparams)
    if size == (32, 32):
        return WideResNet(input_shape)
    if size == (28, 28):
        return ConvNet(input_shape, [(64, 1), (128, 2), (128, 1), (128, 1)])
    if len(size) == 2 and min(size) >= 8 and max(size) < 28:
        return ConvNet(input_shape, [(32, 2), (64, 2), (64, 1)])
    raise InputError(
        f"input_shape is {input_shape}: expected (D,), or channels with 224x224, 32x32, 28x28 or "
        "8 to 27 pixels; hparam 'backbone' names a network for images of other sizes"
    )


def make_classifier(n_inputs: int, num_classes: int, nonlinear: bool) -> nn.Module:
    """A linear classifier, or DomainBed's three-layer one if `nonlinear`."""
    if not nonlinear:
        return nn.Linear(n_inputs, num_classes)
    return nn.Sequential(*with_relu(n_inputs, n_inputs // 2, n_inputs // 4, num_classes)[:-1])


def has_free_batch_norm(module: nn.Module) -> bool:
    """Whether training updates running statistics in `module`, which must be in training mode."""
    return any(norm.training for norm in batch_norms(module))


UNITS = {"image_size": "px", "feature_views": "augmented views"}
"""hparams that belong to the name of a backbone in records, with their units."""


def describe(featurizer: nn.Module, hparams: Mapping[str, Any]) -> dict[str, str]:
    """The backbone, weights and batch-norm mode in use, for log and records.

    The featurizer must be in training mode; the weights of an external one are "unknown".
    """
    if isinstance(featurizer, Head):
        name, weights = f"{backbone_name(hparams)}, frozen", hparams["weights"] or "random"
    elif isinstance(featurizer, Backbone):
        name, weights = featurizer.name, hparams["weights"] or "random"
    else:
        own = isinstance(featurizer, MLP | ConvNet | WideResNet)
        name, weights = type(featurizer).__name__, "random" if own else "unknown"
    if isinstance(featurizer, Head | Backbone):
        name += "".join(f", {hparams[key]} {what}" for key, what in UNITS.items() if hparams.get(key))
    mode = "none" if not batch_norms(featurizer) else "free" if has_free_batch_norm(featurizer) else "frozen"
    return {"backbone": name, "weights": weights, "batch_norm": mode}


MOMENTUM = 0.9


def make_optimizer(parameters: Iterable[nn.Parameter], hparams: Mapping[str, Any]) -> Optimizer:
    """A new optimizer for parameters: hparam `optimizer` ("adam", or "sgd" with Nesterov momentum 0.9).

    hparams `lr` and `weight_decay` apply; on a GPU a step is one fused kernel.
    """
    own = list(parameters)
    given = {"lr": require(hparams, "lr"), "weight_decay": require(hparams, "weight_decay")}
    # None: torch decides; on a CPU its plain loop rounds as DomainBed's steps do.
    given["fused"] = True if own[0].is_cuda else None
    # DomainBed's hparams have no `optimizer`.
    if hparams.get("optimizer", "adam") == "sgd":
        return SGD(own, momentum=MOMENTUM, nesterov=True, **given)
    return Adam(own, **given)


def optimizers_by_name(algorithm: Any) -> dict[str, Optimizer]:
    """The optimizers of an algorithm, each once, by its first name."""
    named = {id(v): (name, v) for name, v in reversed(vars(algorithm).items()) if isinstance(v, Optimizer)}
    return dict(reversed(named.values()))


def groups_of(optimizer: Optimizer, module: nn.Module) -> list[int]:
    """The indices of an optimizer's groups with parameters of a module."""
    own = set(module.parameters())
    return [i for i, group in enumerate(optimizer.param_groups) if not own.isdisjoint(group["params"])]


def train_beside(
    optimizer: Optimizer, featurizer: nn.Module, beside: nn.Module, lr_scale: float, weight_decay: float | None
) -> None:
    """Adds a group for another module to the optimizer of the featurizer, with a scaled learning rate.

    `weight_decay` None is that of the featurizer.
    """
    own = set(beside.parameters())
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if parameter not in own]
    if followed := groups_of(optimizer, featurizer):
        options = {**optimizer.param_groups[followed[0]], "params": list(beside.parameters())}
        if weight_decay is not None:
            options["weight_decay"] = weight_decay
        optimizer.add_param_group({**options, "batchformer_follows": followed[0], "batchformer_lr_scale": lr_scale})
        follow(optimizer)
        optimizer.register_step_pre_hook(follow)


def follow(optimizer: Optimizer, *step: Any) -> None:
    """Sets the learning rate of that group from the featurizer's, which may have any schedule."""
    for group in optimizer.param_groups:
        if "batchformer_follows" in group:
            group["lr"] = group["batchformer_lr_scale"] * optimizer.param_groups[group["batchformer_follows"]]["lr"]
