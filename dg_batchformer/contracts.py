"""Contracts: how the code bases of DG algorithms construct an algorithm and call its `update`.

Modifiers and the trainer follow the contract of a class. A new contract is an entry of `CONTRACTS`, which come from
facebookresearch/DomainBed, khanrc/swad and its descendants (kakaobrain/miro), and YyzHarry/multi-domain-imbalance.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dg_batchformer.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from dg_batchformer.data.batches import Minibatches


class Attributes(dict[str, Any]):
    """Hyper-parameters that are also attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclasses.dataclass(frozen=True)
class Contract:
    """How a code base calls `update`, and what else its algorithms expect.

    `takes` are the first parameters of `update`: one with the minibatches (x, y) by environment, or two with the lists
    of x and of y; `optional` is the one that follows. `step`: `update` also gets `step=`. `attributes`: hparams are
    attributes too. `env_labels`: so is called the constructor's argument with the training labels by environment.
    """

    where: str
    takes: tuple[str, ...]
    optional: str
    step: bool = False
    attributes: bool = False
    env_labels: bool = False

    def __str__(self) -> str:
        return f"update({', '.join((*self.takes, self.optional))}) of {self.where}"

    def minibatches(self, given: Sequence[Any], named: Mapping[str, Any]) -> Minibatches:
        """The minibatches among the arguments of an `update`."""
        values = [given[i] if i < len(given) else named[name] for i, name in enumerate(self.takes)]
        return values[0] if len(values) == 1 else list(zip(*values, strict=True))

    def arguments(
        self, minibatches: Minibatches, given: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an `update`, with other minibatches."""
        n = len(self.takes)
        taken = [minibatches] if n == 1 else [list(one) for one in zip(*minibatches, strict=True)]
        others = {name: value for name, value in (named or {}).items() if name not in self.takes}
        return (*taken, *given[n:]), others

    def construct(self, cls: Any, shapes: Sequence[Any], hparams: dict[str, Any], labels: Sequence[Tensor]) -> Any:
        """An algorithm for `shapes` (input_shape, num_classes, num_domains) and labels (n_d,) by environment."""
        more = {"env_labels": {f"env{i}": y.numpy() for i, y in enumerate(labels)}} if self.env_labels else {}
        return cls(*shapes, Attributes(hparams) if self.attributes else hparams, **more)

    def fits(self, names: Sequence[str]) -> bool:
        """Whether parameters of an `update` with these names are those of this contract."""
        n = len(self.takes)
        return tuple(names[:n]) == self.takes if n > 1 else self.optional in names[1:]


DOMAINBED = Contract("DomainBed", ("minibatches",), "unlabeled")

CONTRACTS = (
    DOMAINBED,
    Contract("SWAD and MIRO", ("x", "y"), "**kwargs", step=True, attributes=True),
    Contract("multi-domain-imbalance", ("minibatches",), "env_feats", env_labels=True),
)


@functools.cache
def contract_of(cls: Any) -> Contract:
    """The contract of an algorithm class, by the signature of its `update`; InputError for an unknown one."""
    parameters: list[inspect.Parameter] = []
    for base in cls.__mro__:
        # A variant passes any arguments on: it has the signature of the class that it extends.
        parameters = (
            list(inspect.signature(vars(base)["update"]).parameters.values())[1:] if "update" in vars(base) else []
        )
        if parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            break
    names = [one.name for one in parameters]
    contract = next((one for one in CONTRACTS if one.fits(names)), DOMAINBED if names[:1] == ["minibatches"] else None)
    n = len(contract.takes) if contract else 0
    if contract is None or any(
        one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters[n:]
    ):
        given = ", ".join(map(str, parameters))
        known = "; ".join(map(str, CONTRACTS))
        raise InputError(f"{cls.__name__} has update({given}), which is not a known signature: expected one of {known}")
    return dataclasses.replace(contract, takes=tuple(names[:n]))


def update(algorithm: Any, minibatches: Minibatches, step: int = 0) -> dict[str, Any]:
    """One update of an algorithm, whatever its contract."""
    contract = contract_of(algorithm.__class__)
    given, _ = contract.arguments(minibatches)
    values: dict[str, Any] = algorithm.update(*given, **({"step": step} if contract.step else {}))
    return values


class Registry(NamedTuple):
    """The modules of a code base with its algorithms and their hparams, and its dataset of small images."""

    algorithms: str
    hparams: str
    small: str


REGISTRIES = {
    "domainbed": Registry("domainbed.algorithms", "domainbed.hparams_registry", "RotatedMNIST"),
    "mdlt": Registry("mdlt.learning.algorithms", "mdlt.hparams_registry", "ImbalancedRotatedMNIST"),
}
"""By package; swad and miro are called domainbed too."""


def registry_of(cls: type) -> Registry | None:
    """The registry of the package of a class, which alone knows its hparams."""
    return REGISTRIES.get(cls.__module__.partition(".")[0])


def listed(algorithms: Any) -> list[str]:
    """The names of a code base's algorithms: its list, or its classes that are not abstract."""
    if hasattr(algorithms, "ALGORITHMS"):
        return list(algorithms.ALGORITHMS)
    return [
        name
        for name, value in vars(algorithms).items()
        if isinstance(value, type) and issubclass(value, algorithms.Algorithm) and value is not algorithms.Algorithm
        if not name.startswith("Abstract") and not hasattr(value, "composition")
    ]


def named_class(name: str) -> type | None:
    """The algorithm called `name` in a code base that can be imported."""
    for registry in REGISTRIES.values():
        try:
            module = importlib.import_module(registry.algorithms)
        except ImportError:
            continue
        if name in listed(module):
            found: type = getattr(module, name)
            return found
    return None


def config_of(package: str) -> dict[str, Any]:
    """The settings in `config.yaml` beside a package, as SWAD and MIRO have them; sconf, which they need, reads it."""
    path = Path(str(importlib.import_module(package).__path__[0])).with_name("config.yaml")
    try:
        sconf = importlib.import_module("sconf")
    except ImportError:
        return {}
    settings: dict[str, Any] = sconf.Config(str(path)).asdict() if path.exists() else {}
    return settings
