"""Names to algorithm classes: objectives, modifiers, and every composition of them.

A name is an objective followed by modifiers, such as `CORAL_MixStyle_BatchFormer`. Without an objective the modifiers
apply to ERM: `SWAD` is `ERM_SWAD`. Every spelling of a composition is the same class: MixStyle comes first (it changes
the features), then BatchFormer (the input of the loss), then SWAD (the final weights). An objective is built in, added
by `register_algorithm`, a class `module:Class`, a plug-in, or one of a code base that can be imported
(`contracts.REGISTRIES`).
"""

import copy
import functools
import importlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from dg_batchformer.contracts import Registry, config_of, contract_of, named_class, registry_of
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.hparams import OURS, Hyperparameter, plain, shared_hyperparameters
from dg_batchformer.plugins import ALGORITHMS as PLUGINS
from dg_batchformer.plugins import plugin, plugins

ALGORITHMS = (
    "ERM",
    "ERM_BatchFormer",
    "CORAL",
    "CORAL_BatchFormer",
    "IRM",
    "IRM_BatchFormer",
    "VREx",
    "VREx_BatchFormer",
    "MixStyle",
    "MixStyle_BatchFormer",
    "SWAD",
    "SWAD_BatchFormer",
)
"""The twelve standard algorithms, in the order of the tables."""

MODIFIER_ORDER = ("MixStyle", "BatchFormer", "SWAD")
"""Modifiers, the innermost first."""


Modify = Callable[[Any], Any]
"""Makes a class of an algorithm from another one."""


class Modifier(NamedTuple):
    """A modifier: its change of a class, and the hyper-parameters that it adds."""

    modify: Modify
    hyperparameters: tuple[Hyperparameter, ...]


class Composition(NamedTuple):
    """The parts of an algorithm's class."""

    objective: Any
    modifiers: frozenset[str] = frozenset()


_objectives: dict[str, type] = {}
_modifiers: dict[str, Modifier] = {}


def register_algorithm(cls: type) -> type:
    """Class decorator that registers an algorithm, and so all its variants, under the name of the class.

    The class has `predict(x)` and an `update` of `contracts.CONTRACTS`, and may declare `hyperparameters`, a tuple of
    `Hyperparameter`. Raises InputError if another class has the name, or if it ends with
    the name of a modifier.
    """
    name = cls.__name__
    _check_contract(cls)
    if name in MODIFIER_ORDER or name.endswith(tuple(f"_{modifier}" for modifier in MODIFIER_ORDER)):
        raise InputError(f"{name} ends with the name of a modifier: expected another class name")
    taken = _objectives.get(name)
    if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
        raise InputError(f"{name} is registered already, by {taken.__module__}: expected another class name")
    _objectives[name] = cls
    return cls


def _check_contract(cls: type) -> None:
    if missing := [method for method in ("update", "predict") if not callable(getattr(cls, method, None))]:
        lacks = f"{cls.__name__} has no {' and no '.join(missing)}"
        raise InputError(f"{lacks}: expected an algorithm with update and predict")
    contract_of(cls)


def register_modifier(name: str, hyperparameters: tuple[Hyperparameter, ...]) -> Callable[[Modify], Modify]:
    """Decorator that registers a function as the modifier `name`, composed in the canonical order."""

    def register(modify: Modify) -> Modify:
        _modifiers[name] = Modifier(modify, hyperparameters)
        return functools.wraps(modify)(functools.partial(compose, modifier=name))

    return register


def compose(cls: Any, modifier: str) -> Any:
    """`cls` with an additional modifier, in the canonical order; a modifier that it already has changes nothing."""
    _fill()
    objective, present = _composition(cls)
    if modifier not in present and modifier in getattr(cls, "composition", Composition(cls)).modifiers:
        raise InputError(f"{cls.__name__} has {modifier} from the class it extends: expected a class without it")
    return _composed(Composition(objective, present | {modifier}))


def _composition(cls: type) -> Composition:
    """Objective and modifiers of a class; a subclass of a composed class is a new objective."""
    composition: Composition = cls.__dict__.get("composition", Composition(cls))
    return composition


@functools.cache
def _composed(composition: Composition) -> Any:
    objective, modifiers = composition
    if not modifiers:
        return objective
    outermost = max(modifiers, key=MODIFIER_ORDER.index)
    base = _composed(Composition(objective, modifiers - {outermost}))
    modify, own = _modifiers[outermost]
    cls = modify(base)
    cls.__name__ = cls.__qualname__ = f"{base.__name__}_{outermost}"
    cls.__doc__ = f"{base.__name__} with {outermost}.\n\n{base.__doc__}"
    cls.__module__ = objective.__module__
    cls.hyperparameters = (*getattr(base, "hyperparameters", ()), *own)
    cls.composition = composition
    return cls


def get_algorithm_class(name: str) -> Any:
    """The class of an algorithm by its name; an unknown name is an InputError that lists the nearest ones."""
    _fill()
    stem, modifiers = split_name(name)
    if len(set(modifiers)) < len(modifiers):
        raise InputError(f"algorithm {name!r} names a modifier twice")
    objective = _imported(stem) if ":" in stem else _objectives.get(stem) or _plugin(stem) or named_class(stem)
    if objective is None:
        raise InputError(unknown("algorithm", name, sorted({*_objectives, *ALGORITHMS, *plugins(PLUGINS)})))
    return _composed(Composition(objective, frozenset(modifiers)))


class NameParts(NamedTuple):
    """The objective and the modifiers in an algorithm's name."""

    objective: str
    modifiers: list[str]


def split_name(name: str) -> NameParts:
    """The parts of a name; without an objective it is ERM."""
    parts = name.split("_")
    modifiers: list[str] = []
    while parts and parts[-1] in MODIFIER_ORDER:
        modifiers.insert(0, parts.pop())
    return NameParts(("_".join(parts) or "ERM") if modifiers else name, modifiers)


def without_modifier(name: str, modifier: str) -> str:
    """The canonical name of an algorithm without a modifier: two spellings of one algorithm have the same."""
    objective, modifiers = split_name(name)
    return "_".join([objective, *(one for one in MODIFIER_ORDER if one in modifiers and one != modifier)])


def _fill() -> None:
    """Imports the algorithms, which register themselves."""
    importlib.import_module("dg_batchformer.algorithms")


def _plugin(name: str) -> type | None:
    """The algorithm of an installed package, by its entry point."""
    cls: type | None = plugin(PLUGINS, name, type)
    if cls:
        _check_contract(cls)
    return cls


def _imported(path: str) -> type:
    """The class `module:Class`, for algorithms outside this package."""
    module_name, _, class_name = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # a user's module may raise anything
        raise InputError(
            f"algorithm {path!r} cannot be imported ({type(error).__name__}: {error}): expected module:Class, "
            "with the module's folder on PYTHONPATH"
        ) from error
    if not isinstance(cls, type):
        raise InputError(f"algorithm {path!r} is a {type(cls).__name__}: expected a class")
    _check_contract(cls)
    return cls


def hyperparameters(algorithm: str | type, dataset: str) -> tuple[Hyperparameter, ...]:
    """All hyper-parameters of an algorithm, by name or class, on a dataset (also any of DomainBed's)."""
    cls = get_algorithm_class(algorithm) if isinstance(algorithm, str) else algorithm
    objective = _composition(cls).objective
    shared = shared_hyperparameters(dataset)
    if registry := registry_of(objective):
        # Networks of other code bases do not know ours.
        shared = (*(hp for hp in shared if hp.name not in OURS), *_their_hyperparameters(registry, objective, dataset))
    own = tuple(getattr(cls, "hyperparameters", ()))
    # The last one of a name counts: a method may declare a shared hyper-parameter again.
    return tuple({hp.name: hp for hp in (*shared, *own)}.values())


def _their_hyperparameters(registry: Registry, cls: type, dataset: str) -> tuple[Hyperparameter, ...]:
    theirs = importlib.import_module(registry.hparams)
    # They do not have RotatedDigits; it counts as small images.
    dataset = registry.small if dataset == "RotatedDigits" else dataset

    class Drawn(Hyperparameter):
        def draw(self, seed: int) -> Any:
            return plain(theirs.random_hparams(cls.__name__, dataset, seed).get(self.name, self.default))

    defaults = config_of(cls.__module__.partition(".")[0]) | theirs.default_hparams(cls.__name__, dataset)
    return tuple(Drawn(name, value) for name, value in defaults.items() if name != "resnet50_augmix")


def in_order(algorithms: Iterable[str]) -> list[str]:
    """Each algorithm once: the standard ones first, then the others by name."""
    names = set(algorithms)
    return [name for name in ALGORITHMS if name in names] + sorted(names - set(ALGORITHMS))


def default_hparams(algorithm: str | type, dataset: str) -> dict[str, Any]:
    """The default hyper-parameters, those of hparams_seed 0."""
    return {hp.name: copy.copy(hp.default) for hp in hyperparameters(algorithm, dataset)}


def random_hparams(algorithm: str | type, dataset: str, seed: int) -> dict[str, Any]:
    """Hyper-parameters of a random search; DomainBed takes `seed_hash(hparams_seed, trial_seed)` as seed."""
    return {hp.name: hp.draw(seed) for hp in hyperparameters(algorithm, dataset)}
