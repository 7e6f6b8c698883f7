"""The adapter: external algorithms whose own update runs on features; see docs/adapter.md."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dg_batchformer.contracts import DOMAINBED, Contract, contract_of
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError, first_line
from dg_batchformer.networks import groups_of, optimizers_by_name

from ..erm import ERM, ByEnvironment
from .rows import FrozenRows, RefusedError, Rows, Unlabeled, frozen_twins, standing_in

SEEN = ("features_by_environment", "labels_by_environment")
"""The methods of `ByEnvironment`, which modifiers override."""


class Task(NamedTuple):
    """The shapes for which an algorithm is constructed."""

    input_shape: tuple[int, ...]
    num_classes: int
    num_domains: int


def adapted(cls: Any, modifier: str) -> Any:
    """The base class for a modifier: our own classes as they are, external ones with an `Adapter`."""
    if issubclass(cls, Adapter) or takes_our_steps(cls):
        return cls

    class Adapted(Adapter, cls, ByEnvironment):
        refused = f"{cls.__name__} does not work with {modifier}:"
        contract = contract_of(cls)

    return Adapted


def takes_our_steps(cls: Any) -> bool:
    """Whether a class extends ERM and has the update of ERM or of another file in its folder."""
    room, _, _ = ERM.__module__.rpartition(".")
    return issubclass(cls, ERM) and cls.update.__module__.rpartition(".")[0] == room


class Adapter:
    """Mixed into an external class, so that modifiers can treat it like our objectives.

    The class's own update gets rows of the identity matrix instead of inputs, and its featurizer returns for them the
    features that the modifiers compute. `beside` names a module that a modifier added for these features; `refused` is
    the start of the message about a class that cannot be adapted; `contract` says how its `update` is called.
    """

    refused: str
    contract: Contract
    beside = ""

    def __init__(self, input_shape: Any, num_classes: int, num_domains: int, hparams: Any, **more: Any) -> None:
        theirs: Any = super()
        try:
            theirs.__init__(input_shape, num_classes, num_domains, hparams, **more)
        except (AssertionError, RuntimeError, TypeError) as error:  # for example if it needs a GPU
            raise InputError(f"{self.refused} its constructor fails ({first_line(error)})") from error
        name_featurizer(self)
        if problem := what_lacks(self):
            raise InputError(f"{self.refused} {problem}")
        self.task = Task(input_shape, num_classes, num_domains)

    def update(self: Any, *given: Any, **named: Any) -> dict[str, float]:
        """One step of the algorithm's own update, on the features and labels of the modifiers."""
        theirs: Any = super()
        minibatches = self.contract.minibatches(given, named)
        # An update that extends ours calls these too, and must not apply the modifiers twice.
        own = {name: getattr(theirs, name) for name in SEEN}

        def features(featurizer: nn.Module, beside: nn.Module | None) -> list[Tensor]:
            """The features of the modifiers, from the algorithm's modules or from copies of them."""
            view: Any = object.__new__(type(self))
            vars(view).update({name: value for name, value in vars(self).items() if name not in own})
            if beside:
                vars(view)["_modules"] = {**self._modules, self.beside: beside}
            return view.features_by_environment(featurizer, minibatches)

        labels = self.labels_by_environment(minibatches)
        sizes = [len(one) for one in labels]
        rows = torch.eye(sum(sizes), sum(sizes) + 1, device=labels[0].device).split(sizes)
        images, samples = self._behind_rows(minibatches)
        given, named = self.contract.arguments(list(zip(rows, labels, strict=True)), given, named)
        if self.contract.optional == DOMAINBED.optional:
            given = (given[0], *(None if one is None else Unlabeled() for one in given[1:]))
            named = {name: None if one is None else Unlabeled() for name, one in named.items()}
        beside = getattr(self, self.beside) if self.beside else None
        vars(self).update(own)
        try:
            with (
                among_parameters(getattr(self, "network", self.featurizer), beside),
                standing_in(self.featurizer, Rows(self.featurizer, beside, features, samples)),
                ExitStack() as twins,
            ):
                for twin in frozen_twins(self, self.featurizer):
                    twins.enter_context(standing_in(twin, FrozenRows(twin, images, samples)))
                return theirs.update(*given, **named)
        except RefusedError as error:
            raise InputError(f"{self.refused} {error}") from error
        finally:
            for name in own:
                del vars(self)[name]

    def _behind_rows(self: Any, minibatches: Minibatches) -> tuple[Tensor, Tensor]:
        """The images of a step, and the index of the image behind each row."""
        images = torch.cat([x for x, _ in minibatches])
        places = torch.arange(len(images), device=images.device).split([len(x) for x, _ in minibatches])
        # Modifiers repeat and reorder labels, and so they do with places.
        placed = [(x, own) for (x, _), own in zip(minibatches, places, strict=True)]
        return images, torch.cat(self.labels_by_environment(placed))


def name_featurizer(algorithm: Any) -> None:
    """Gives an algorithm without a `featurizer` one: its only module with `n_outputs`, whatever its name."""
    if isinstance(algorithm, nn.Module) and not hasattr(algorithm, "featurizer"):
        found = [module for module in algorithm.children() if hasattr(module, "n_outputs")]
        if len(found) == 1:
            # Not as a module: the names in its `state_dict` stay as they are.
            vars(algorithm)["featurizer"] = found[0]


def what_lacks(algorithm: Any) -> str | None:
    """Why a modifier cannot attach to an algorithm, or None."""
    if not isinstance(algorithm, nn.Module):
        return "it is not a torch module"
    featurizer = getattr(algorithm, "featurizer", None)
    if not isinstance(featurizer, nn.Module):
        return "it has no `featurizer`, and not exactly one module with `n_outputs`"
    if not hasattr(featurizer, "n_outputs"):
        return "its `featurizer` has no `n_outputs`, the width of the features"
    if not any(groups_of(optimizer, featurizer) for optimizer in optimizers_by_name(algorithm).values()):
        return "it has no optimizer that holds the parameters of its `featurizer`"
    return None


@contextmanager
def among_parameters(network: nn.Module, beside: nn.Module | None) -> Iterator[None]:
    """Appends the trained parameters of `beside` to the network's during the context, but not to its `state_dict`.

    So they take part in everything that an algorithm does with all parameters of the network or of a copy.
    """
    last = list(network.modules())[-1]  # the last one has no submodules, so no `forward` sees the additional parameters
    parameters = [one for one in beside.parameters() if one.requires_grad] if beside else []
    added = {f"beside_in_update_{i}": parameter for i, parameter in enumerate(parameters)}

    def leave_out(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        for name in added:
            state.pop(prefix + name, None)

    last._parameters.update(added)
    hook = last._register_state_dict_hook(leave_out)
    try:
        yield
    finally:
        hook.remove()
        for name in added:
            del last._parameters[name]
