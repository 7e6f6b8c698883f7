"""The adapter: external algorithms whose own update runs on features; see docs/adapter.md."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError, first_line
from dg_batchformer.networks import groups_of, optimizers_by_name

from ..erm import ERM, ByEnvironment
from .rows import RefusedError, Rows, Unlabeled, standing_in

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

    return Adapted


def takes_our_steps(cls: Any) -> bool:
    """Whether a class extends ERM and has the update of ERM or of another file in its folder."""
    room, _, _ = ERM.__module__.rpartition(".")
    return issubclass(cls, ERM) and cls.update.__module__.rpartition(".")[0] == room


class Adapter:
    """Mixed into an external class, so that modifiers can treat it like our objectives.

    The class's own update gets rows of the identity matrix instead of inputs, and its featurizer returns for them the
    features that the modifiers compute. `beside` names a module that a modifier added for these features; `refused` is
    the start of the message about a class that cannot be adapted.
    """

    refused: str
    beside = ""

    def __init__(self, input_shape: Any, num_classes: int, num_domains: int, hparams: Any) -> None:
        theirs: Any = super()
        try:
            theirs.__init__(input_shape, num_classes, num_domains, hparams)
        except (AssertionError, RuntimeError) as error:  # for example if it needs a GPU
            raise InputError(f"{self.refused} its constructor fails ({first_line(error)})") from error
        if problem := what_lacks(self):
            raise InputError(f"{self.refused} {problem}")
        self.task = Task(input_shape, num_classes, num_domains)

    def update(self: Any, minibatches: Minibatches, unlabeled: Any = None) -> dict[str, float]:
        """One step of the algorithm's own update, on the features and labels of the modifiers."""
        theirs: Any = super()
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
        beside = getattr(self, self.beside) if self.beside else None
        vars(self).update(own)
        try:
            with (
                among_parameters(getattr(self, "network", self.featurizer), beside),
                standing_in(self.featurizer, Rows(self.featurizer, beside, features)),
            ):
                return theirs.update(list(zip(rows, labels, strict=True)), None if unlabeled is None else Unlabeled())
        except RefusedError as error:
            raise InputError(f"{self.refused} {error}") from error
        finally:
            for name in own:
                del vars(self)[name]


def what_lacks(algorithm: Any) -> str | None:
    """Why a modifier cannot attach to an algorithm, or None."""
    if not isinstance(algorithm, nn.Module):
        return "it is not a torch module"
    featurizer = getattr(algorithm, "featurizer", None)
    if not isinstance(featurizer, nn.Module):
        return "it has no `featurizer`"
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
