"""An algorithm's own update on features that were computed beforehand, in place of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError, first_line


def not_wrappable(algorithm: Any) -> str | None:
    """Why an algorithm's update cannot be run on features, or None where it can."""
    for name in ("featurizer", "classifier", "network", "optimizer"):
        if not hasattr(algorithm, name):
            return f"it has no `{name}`"
    if not hasattr(algorithm.featurizer, "n_outputs"):
        return "its `featurizer` has no `n_outputs`, the width of the features"
    network = algorithm.network
    if not isinstance(network, nn.Sequential) or list(network)[:1] != [algorithm.featurizer]:
        return "its `network` is not Sequential(featurizer, classifier)"
    if not isinstance(algorithm.optimizer, torch.optim.Optimizer):
        return f"its `optimizer` is a {type(algorithm.optimizer).__name__}, not a torch optimizer"
    others = [
        name
        for name, value in vars(algorithm).items()
        if isinstance(value, torch.optim.Optimizer) and value is not algorithm.optimizer
    ]
    if others:
        return f"it has more optimizers than `optimizer`: {', '.join(others)}"
    return None


def check_wrappable(algorithm: Any, name: str, what: str) -> None:
    """InputError, with the reason, where the algorithm called `name` cannot be given the modifier `what`."""
    problem = not_wrappable(algorithm)
    if problem:
        raise InputError(f"{name} cannot be given {what}: {problem}")


class CopiedError(InputError):
    """An update copied the network while its featurizer passed features through."""


class PassThrough:
    """Stands in for a featurizer's `forward`: returns its input, and refuses to be copied with the network.

    A copy would have no featurizer that trains, as in methods that clone the network for an inner step.
    """

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise CopiedError("its update copies the network, and a copy on features would train no featurizer")


@contextmanager
def passing_through(featurizer: nn.Module) -> Iterator[None]:
    """While this lasts, the featurizer returns its input, wherever in an algorithm it is called."""
    before = vars(featurizer).get("forward")
    featurizer.forward = PassThrough()
    try:
        yield
    finally:
        del featurizer.forward
        if before is not None:
            featurizer.forward = before


def update_on_features(
    algorithm: Any, update: Any, what: str, minibatches: Minibatches, unlabeled: list[Tensor] | None
) -> dict[str, float]:
    """Runs an algorithm's `update` on (features, labels) by environment; `what` is the modifier that needs it.

    InputError, with the reason, where the update does not train on them as it would on inputs.
    """
    refused = f"{type(algorithm).__name__} cannot be given {what}:"
    expected = [features for features, _ in minibatches if features.requires_grad]
    reached: list[Tensor] = []
    for features in expected:
        features.register_hook(reached.append)
    if unlabeled is not None:
        unlabeled = [algorithm.featurizer(x) for x in unlabeled]
    try:
        with passing_through(algorithm.featurizer):
            values: dict[str, float] = update(minibatches, unlabeled)
    except CopiedError as error:
        raise InputError(f"{refused} {error}") from error
    except RuntimeError as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise InputError(f"{refused} its update fails on features in place of inputs ({first_line(error)})") from error
    if expected and not reached:
        raise InputError(
            f"{refused} its update sends no gradient back to the features, so that they would not be trained"
        )
    return values
