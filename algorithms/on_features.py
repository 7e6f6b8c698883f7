"""An algorithm's own update on features in place of inputs."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dg_batchformer import machine
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError, first_line

ByEnvironment = Callable[[nn.Module], list[Tensor]]
"""Gives features by environment as a featurizer, the algorithm's or a copy of it, computes them now."""

TRIAL_SAMPLES = 2
"""Of each environment in a trial update."""


class Rows:
    """Stands in for a featurizer's `forward`: its inputs are rows of the identity, which pick samples' features.

    So an algorithm may ask for any part of the batch, in any order, mixed, and more than once. The features are
    computed over the whole batch, and anew when gradient has gone back through them: their graph is spent then, and
    the weights may have moved. In a copy of the network the copied featurizer computes its own.
    """

    def __init__(self, featurizer: nn.Module, compute: Callable[[nn.Module], Tensor]) -> None:
        self.featurizer, self.compute = featurizer, compute
        self.replaced = featurizer.forward
        self.features: Tensor | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        features = self.features if self.features is not None else self._compute()
        return rows.to(features.dtype) @ features

    def __deepcopy__(self, memo: dict[int, Any]) -> Rows:
        twin = Rows(copy.deepcopy(self.featurizer, memo), self.compute)
        twin.replaced = copy.deepcopy(self.replaced, memo)
        return twin

    def _compute(self) -> Tensor:
        self.featurizer.forward = self.replaced
        try:
            # An update that looks at features without gradient first may want it later.
            with torch.enable_grad():
                features = self.compute(self.featurizer)
        finally:
            self.featurizer.forward = self
        if features.requires_grad:
            features.register_hook(self._spend)
        self.features = features
        return features

    def _spend(self, gradient: Tensor) -> None:
        self.features = None


@contextmanager
def standing_in(featurizer: nn.Module, rows: Rows) -> Iterator[None]:
    """While this lasts, `rows` is the featurizer's `forward`, wherever in an algorithm it is called."""
    before = vars(featurizer).get("forward")
    featurizer.forward = rows
    try:
        yield
    finally:
        del featurizer.forward
        if before is not None:
            featurizer.forward = before


def update_on_features(
    algorithm: Any,
    update: Callable[..., dict[str, float]],
    labels: Sequence[Tensor],
    features: ByEnvironment,
    unlabeled: Sequence[Tensor] | None,
) -> dict[str, float]:
    """Runs an algorithm's `update` on features by environment with their labels."""
    others = list(unlabeled or [])
    sizes = [len(one) for one in (*labels, *others)]
    rows = torch.eye(sum(sizes), device=labels[0].device).split(sizes)

    def compute(featurizer: nn.Module) -> Tensor:
        return torch.cat([*features(featurizer), *(featurizer(x) for x in others)])

    with standing_in(algorithm.featurizer, Rows(algorithm.featurizer, compute)):
        minibatches = list(zip(rows, labels, strict=False))
        return update(minibatches, None if unlabeled is None else list(rows[len(labels) :]))


@contextmanager
def constructing(name: str, what: str) -> Iterator[None]:
    """Says of the algorithm called `name` that it cannot be constructed itself, as where it needs a GPU."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"{name} cannot be given {what}: it cannot be constructed itself ({first_line(error)})"
        ) from error


def optimizers_of(algorithm: Any) -> dict[str, torch.optim.Optimizer]:
    """An algorithm's optimizers, by attribute, that hold parameters of its featurizer."""
    own = set(algorithm.featurizer.parameters())
    return {
        name: value
        for name, value in vars(algorithm).items()
        if isinstance(value, torch.optim.Optimizer)
        and any(parameter in own for group in value.param_groups for parameter in group["params"])
    }


def check_parts(algorithm: Any, name: str, what: str) -> None:
    """InputError where the algorithm called `name` lacks what the modifier `what` attaches to."""
    featurizer = getattr(algorithm, "featurizer", None)
    if not isinstance(featurizer, nn.Module):
        problem = "it has no `featurizer`"
    elif not hasattr(featurizer, "n_outputs"):
        problem = "its `featurizer` has no `n_outputs`, the width of the features"
    elif not optimizers_of(algorithm):
        problem = "it has no optimizer that holds the parameters of its `featurizer`"
    else:
        return
    raise InputError(f"{name} cannot be given {what}: {problem}")


def try_update(algorithm: Any, update: Callable[..., Any], name: str, what: str, given: tuple[Any, int, int]) -> Any:
    """A copy of the algorithm called `name` after one `update` with the modifier `what`, on random inputs.

    `given` are its input shape, classes and environments. InputError, with the reason, where the update does not
    train on features as it does on inputs. No generator and nothing in the algorithm itself is disturbed.
    """
    refused = f"{name} cannot be given {what}:"
    shape, num_classes, num_domains = given
    device = machine.device()
    try:
        trial = copy.deepcopy(algorithm).to(device)
    except Exception as error:  # whatever an algorithm of others may hold
        raise InputError(f"{refused} it cannot be copied for a trial update ({first_line(error)})") from error
    reached: list[Tensor] = []

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(reached.append)

    trial.featurizer.register_forward_hook(watch)
    with undisturbed_generators(device):
        try:
            update(trial, random_minibatches(shape, num_classes, num_domains, device))
        except (InputError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(
                f"{refused} its update fails where features take the place of inputs "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error
    if not reached:
        raise InputError(f"{refused} its update sends no gradient back to the features, which would not be trained")
    return trial


def random_minibatches(shape: Any, num_classes: int, num_domains: int, device: str) -> Minibatches:
    """Noise for a trial update: a few samples of each environment."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(TRIAL_SAMPLES) % num_classes
    return [
        (torch.randn(TRIAL_SAMPLES, *shape, generator=generator).to(device), labels.to(device))
        for _ in range(num_domains)
    ]


@contextmanager
def undisturbed_generators(device: str) -> Iterator[None]:
    """Puts the global generators back as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
