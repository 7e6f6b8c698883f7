"""An algorithm's own update on features in place of inputs."""

from __future__ import annotations

import copy
import gc
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dg_batchformer import machine
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError, first_line

Features = Callable[[nn.Module, Any], list[Tensor]]
"""Gives features by environment, as a featurizer and a beside module (or copies of the two) compute them now."""

TRIAL_SAMPLES = 2
"""Of each environment in a trial update."""


class Rows:
    """Stands in for a featurizer's `forward`: its inputs are rows of the identity, which pick samples' features.

    So an algorithm may ask for any part of the batch, in any order, mixed, and more than once. The features are
    computed over the whole batch, and anew when gradient has gone back through them or when the featurizer's mode or
    weights have changed. In a copy of the network the copied featurizer, and a copy of `beside`, compute its own.
    """

    def __init__(self, featurizer: nn.Module, beside: nn.Module | None, compute: Features) -> None:
        self.featurizer, self.beside, self.compute = featurizer, beside, compute
        self.replaced = featurizer.forward
        self.features: Tensor | None = None
        self.state: Any = None
        self.copies: list[Rows] = []

    def __call__(self, rows: Tensor) -> Tensor:
        state = [(parameter.data_ptr(), parameter._version) for parameter in self.featurizer.parameters()]
        state += [(module.training, 0) for module in self.featurizer.modules()]
        if self.features is None or self.state != state:
            self.features, self.state = self._compute(), state
        # The last column is no sample's: see `check_rows`.
        return rows[:, :-1].to(self.features.dtype) @ self.features

    def __deepcopy__(self, memo: dict[int, Any]) -> Rows:
        featurizer, beside = copy.deepcopy((self.featurizer, self.beside), memo)
        twin = Rows(featurizer, beside, self.compute)
        twin.replaced = copy.deepcopy(self.replaced, memo)
        twin.copies = self.copies
        self.copies.append(twin)
        return twin

    def _compute(self) -> Tensor:
        self.featurizer.forward = self.replaced
        try:
            # An update that looks at features without gradient first may want it later.
            with torch.enable_grad():
                features = torch.cat(self.compute(self.featurizer, self.beside))
        finally:
            self.featurizer.forward = self
        if features.requires_grad:
            features.register_hook(self._spend)
        return features

    def _spend(self, gradient: Tensor) -> None:
        self.features = None

    def end(self) -> weakref.ref[nn.Module]:
        """Lets go of the features and, in a copy, of the copied featurizer, which its `forward` held."""
        featurizer = self.featurizer
        vars(featurizer).pop("forward", None)
        del self.featurizer, self.replaced
        self.features = self.beside = None
        return weakref.ref(featurizer)


class RefusedError(InputError):
    """Why an update cannot run on features."""


def check_rows(rows: Tensor) -> None:
    """RefusedError where an input is no row of the identity, nor a mixture of some.

    The last column is no sample's and 0: what moves, scales or adds to inputs does not leave it and the sum alone.
    """
    unchanged = rows.ndim == 2 and bool(rows.min() >= 0) and not rows[:, -1].any()
    if not unchanged or not torch.allclose(rows.sum(1), torch.ones(len(rows)).to(rows)):
        raise RefusedError("its update changes the inputs, which would be features here")


@contextmanager
def standing_in(featurizer: nn.Module, rows: Rows) -> Iterator[None]:
    """While this lasts, `rows` is the featurizer's `forward`, wherever in an algorithm it is called.

    RefusedError where a copy of the featurizer is left over: its features would be this batch's for ever.
    """
    before = vars(featurizer).get("forward")
    featurizer.forward = rows
    try:
        yield
    finally:
        rows.end()
        if before is not None:
            featurizer.forward = before
        copies = [twin.end() for twin in rows.copies]
        rows.copies.clear()
    if any(copied() is not None for copied in copies):
        gc.collect()
        if any(copied() is not None for copied in copies):
            raise RefusedError("its update keeps a copy of the network, which would be left with one batch's features")


class Unlabeled(Sequence[Tensor]):
    """Stands for unlabeled samples, which an algorithm may pass over but not use."""

    def __getitem__(self, index: Any) -> Any:
        raise RefusedError("its update uses unlabeled samples, for which this is not defined")

    def __len__(self) -> int:
        return len(self[:])


def update_on_features(
    algorithm: Any,
    update: Callable[..., dict[str, float]],
    wanted: tuple[str, str],
    labels: Sequence[Tensor],
    features: Features,
    beside: nn.Module | None,
    unlabeled: Sequence[Tensor] | None,
) -> dict[str, float]:
    """Runs an algorithm's `update` on features by environment with their labels.

    `wanted` are the names of the algorithm and of the modifier, for errors; `beside` is what `features` needs beside
    the featurizer.
    """
    sizes = [len(one) for one in labels]
    rows = torch.eye(sum(sizes), sum(sizes) + 1, device=labels[0].device).split(sizes)
    try:
        with standing_in(algorithm.featurizer, Rows(algorithm.featurizer, beside, features)):
            return update(list(zip(rows, labels, strict=True)), None if unlabeled is None else Unlabeled())
    except RefusedError as error:
        raise InputError(f"{wanted[0]} cannot be given {wanted[1]}: {error}") from error


@contextmanager
def constructing(name: str, what: str) -> Iterator[None]:
    """Says of the algorithm called `name` that it cannot be constructed itself, as where it needs a GPU."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"{name} cannot be given {what}: it cannot be constructed itself ({first_line(error)})"
        ) from error


def optimizers_of(algorithm: Any) -> list[torch.optim.Optimizer]:
    """An algorithm's optimizers that hold parameters of its featurizer."""
    own = set(algorithm.featurizer.parameters())
    found = {id(value): value for value in vars(algorithm).values() if isinstance(value, torch.optim.Optimizer)}
    return [
        optimizer
        for optimizer in found.values()
        if any(parameter in own for group in optimizer.param_groups for parameter in group["params"])
    ]


def check_parts(algorithm: Any, name: str, what: str) -> None:
    """InputError where the algorithm called `name` lacks what the modifier `what` attaches to."""
    featurizer = getattr(algorithm, "featurizer", None)
    if not isinstance(algorithm, nn.Module):
        problem = "it is no torch module"
    elif not isinstance(featurizer, nn.Module):
        problem = "it has no `featurizer`"
    elif not hasattr(featurizer, "n_outputs"):
        problem = "its `featurizer` has no `n_outputs`, the width of the features"
    elif not optimizers_of(algorithm):
        problem = "it has no optimizer that holds the parameters of its `featurizer`"
    else:
        return
    raise InputError(f"{name} cannot be given {what}: {problem}")


def try_update(
    algorithm: Any, update: Callable[..., Any], wanted: tuple[str, str], given: tuple[Any, int, int], trained: str = ""
) -> None:
    """InputError, with the reason, where an `update` does not train on features as it does on inputs.

    Tried once, on random inputs and on a copy of the algorithm; no generator and nothing in the algorithm itself is
    disturbed. `wanted` are the names of the algorithm and of the modifier, `given` its input shape, classes and
    environments, and `trained` names the part that has to get a gradient beside the features.
    """
    refused = f"{wanted[0]} cannot be given {wanted[1]}:"
    shape, num_classes, num_domains = given
    device = machine.device()
    try:
        trial = copy.deepcopy(algorithm).to(device)
    except Exception as error:  # whatever an algorithm of others may hold
        raise InputError(f"{refused} it cannot be copied for a trial update ({first_line(error)})") from error
    parts = {name: p for name, p in trial.named_parameters() if trained and name.startswith(f"{trained}.")}
    reached: set[str] = set()
    for name, parameter in parts.items():
        parameter.register_hook(lambda gradient, name=name: reached.add(name))

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module.forward, Rows):
            check_rows(inputs[0])
        if output.requires_grad:
            output.register_hook(lambda gradient: reached.add("features"))

    trial.featurizer.register_forward_hook(watch)
    with undisturbed_generators(device):
        try:
            update(trial, random_minibatches(shape, num_classes, num_domains, device))
        except RefusedError as error:
            raise InputError(f"{refused} {error}") from error
        except (InputError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(
                f"{refused} its update fails where features take the place of inputs "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error
    # An update may also write gradients itself, as one on a copy of the network does.
    reached |= {name for name, parameter in parts.items() if parameter.grad is not None}
    if "features" not in reached:
        raise InputError(f"{refused} its update sends no gradient back to the features, which would not be trained")
    if not reached.issuperset(parts):
        raise InputError(f"{refused} its update gives it no gradient")


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
