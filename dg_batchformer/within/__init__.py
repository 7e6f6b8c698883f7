"""This package's variants inside other code bases.

`python -m dg_batchformer.within CHECKOUT SCRIPT [flags of the script]` runs a script as it is, which then knows the
variants of all algorithms of the code base by name. DomainBed's scripts have a
command of their own too, `dg_batchformer.domainbed`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import torch

from dg_batchformer.batchformer import PREFIX, without_batchformer
from dg_batchformer.contracts import listed
from dg_batchformer.errors import InputError
from dg_batchformer.registry import MODIFIER_ORDER, compose, split_name


@dataclass(frozen=True)
class CodeBase:
    """A code base whose scripts can train variants.

    `mark` is a file that only it has; `extended` are the needed objects of its modules; `modifiers` are those that its
    scripts can use: where they do not give validation losses, SWAD cannot be one.
    """

    source: str
    package: str
    mark: str
    extended: Mapping[str, tuple[str, ...]]
    modifiers: tuple[str, ...]

    def modules(self) -> list[Any]:
        """The modules of `extended`; InputError if one cannot be imported or has changed."""
        return [self._module(name, attributes) for name, attributes in self.extended.items()]

    def _module(self, name: str, attributes: tuple[str, ...]) -> Any:
        path = f"{self.package}.{name}"
        try:
            module = importlib.import_module(path)
        except ImportError as error:
            source = self.source.partition(",")[0]
            raise InputError(
                f"{path} cannot be imported ({error}): expected a checkout of {source} on PYTHONPATH, and what it "
                "requires installed"
            ) from error
        if lacking := [attribute for attribute in attributes if not hasattr(module, attribute)]:
            raise InputError(f"{path} ({module.__file__}) has no {' and no '.join(lacking)}: expected {self.source}")
        return module


HPARAMS = {"hparams_registry": ("_hparams", "default_hparams")}

DOMAINBED = CodeBase(
    "facebookresearch/DomainBed, as of its commit b93c22a",
    "domainbed",
    "domainbed/command_launchers.py",
    {
        "algorithms": ("ALGORITHMS", "ERM", "get_algorithm_class"),
        **HPARAMS,
        "command_launchers": ("REGISTRY",),
        "lib.misc": ("accuracy",),
    },
    MODIFIER_ORDER,
)

CODE_BASES = (
    DOMAINBED,
    CodeBase(
        "khanrc/swad, kakaobrain/miro or a fork, as of their commits 252190e and 5238455",
        "domainbed",
        "domainbed/lib/swa_utils.py",
        {"algorithms": ("Algorithm", "ERM", "get_algorithm_class"), **HPARAMS, "lib.swa_utils": ("AveragedModel",)},
        ("MixStyle", "BatchFormer"),
    ),
    CodeBase(
        "YyzHarry/multi-domain-imbalance, as of its commit 2efbfef",
        "mdlt",
        "mdlt/learning/algorithms.py",
        {"learning.algorithms": ("ALGORITHMS", "ERM", "get_algorithm_class"), **HPARAMS},
        ("MixStyle", "BatchFormer"),
    ),
)


def code_base_of(checkout: Path) -> CodeBase:
    """The code base of a checkout; InputError if the folder is missing or another project."""
    if not checkout.is_dir():
        raise InputError(f"there is no folder {checkout}: expected a checkout of {sources()}")
    for one in CODE_BASES:
        if (checkout / one.mark).exists():
            return one
    raise InputError(f"{checkout} is not a known project: expected a checkout of {sources()}")


def sources() -> str:
    """All known code bases in words."""
    return "; ".join(one.source for one in CODE_BASES)


def register(code_base: CodeBase) -> list[Any]:
    """Adds the variants of all algorithms of a code base, and their hyper-parameters; returns its `modules`.

    X gets X_MixStyle, X_BatchFormer and so on, and a variant has the draws of its base. Names that the code base has
    keep their meaning; repeated calls do nothing. Raises InputError, with nothing registered, if it has changed.
    """
    algorithms, hparams, *others = code_base.modules()
    names = listed(algorithms)
    if missing := [name for name in names if not hasattr(algorithms, name)]:
        raise InputError(
            f"{algorithms.__name__} lists {', '.join(missing)}, but has no such class: expected {code_base.source}"
        )
    orders = [chosen for n in range(1, 4) for chosen in permutations(code_base.modifiers, n)]
    made = {
        "_".join((name, *modifiers)): variant(getattr(algorithms, name), frozenset(modifiers))
        for name in names
        if not split_name(name)[1] and not hasattr(getattr(algorithms, name), "composition")
        for modifiers in orders
    }
    made |= {"_".join(modifiers): variant(algorithms.ERM, frozenset(modifiers)) for modifiers in orders}
    vars(algorithms).update({name: cls for name, cls in made.items() if name not in vars(algorithms)})
    if not hasattr(hparams._hparams, "extends"):
        hparams._hparams = with_modifiers(hparams._hparams, algorithms)
    if "lib.swa_utils" in code_base.extended:
        average_inference_weights(others[0].AveragedModel)
    elif code_base is not DOMAINBED:
        # Its scripts accept listed names only.
        algorithms.ALGORITHMS += [name for name in made if name not in algorithms.ALGORITHMS]
    return [algorithms, hparams, *others]


@functools.cache
def variant(objective: type, modifiers: frozenset[str]) -> type:
    """An algorithm of a code base with modifiers, for its scripts."""
    composed: Any = functools.reduce(compose, modifiers, objective)

    class Within(composed):
        __doc__ = composed.__doc__
        __module__ = objective.__module__

        def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            """Without BatchFormer, so that the base algorithm loads it."""
            if getattr(self, "awaits_validation", False):
                raise InputError(
                    f"{composed.__name__} averages weights by validation losses, and this script gives none: train it "
                    "with `python -m dg_batchformer.domainbed train` (or sweep), which does"
                )
            return without_batchformer(super().state_dict(*args, **kwargs).items())

        def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
            """Loads a `state_dict`; BatchFormer does not change."""
            own = {name: value for name, value in super().state_dict().items() if name.startswith(PREFIX)}
            return super().load_state_dict({**own, **state_dict}, *args, **kwargs)

    Within.__name__ = Within.__qualname__ = composed.__name__
    return Within


def with_modifiers(theirs: Callable[..., dict[str, Any]], algorithms: Any) -> Callable[..., dict[str, Any]]:
    """A code base's (default, drawn) pairs; a variant has those of its base and of its modifiers."""

    @functools.wraps(theirs)
    def hparams(algorithm: str, dataset: str, random: Any) -> dict[str, Any]:
        cls: Any = getattr(algorithms, algorithm, None)
        if not hasattr(cls, "composition"):
            return theirs(algorithm, dataset, random)
        pairs = theirs(split_name(algorithm)[0], dataset, random)
        return pairs | {hp.name: (hp.default, hp.draw(random)) for hp in cls.hyperparameters}

    hparams.extends = theirs  # type: ignore[attr-defined]
    return hparams


def average_inference_weights(averaged: Any) -> None:
    """Makes the weight averages of SWAD's trainer those of the inference weights alone, without BatchFormer's."""
    if hasattr(averaged.update_parameters, "extends"):
        return

    def seeing_inference(theirs: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(theirs)
        def method(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            return theirs(self, inference_view(model), *args, **kwargs)

        method.extends = theirs  # type: ignore[attr-defined]
        return method

    averaged.__init__ = seeing_inference(averaged.__init__)
    averaged.update_parameters = seeing_inference(averaged.update_parameters)


def inference_view(model: Any) -> Any:
    """The same algorithm without its BatchFormer and its optimizers; a model without BatchFormer as it is."""
    if not hasattr(model, "batchformer"):
        return model
    view = object.__new__(type(model))
    own = {name: value for name, value in vars(model).items() if not isinstance(value, torch.optim.Optimizer)}
    vars(view).update(own, _modules={name: part for name, part in model._modules.items() if name != "batchformer"})
    return view
