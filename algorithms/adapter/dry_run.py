"""Whether an algorithm can be given a modifier: what it has to have, and a trial update on a copy of it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dg_batchformer import machine
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError, first_line

from .on_features import RefusedError, Rows, check_rows

TRIAL_SAMPLES = 2
"""Of each environment in a trial update."""


@contextmanager
def constructing(name: str, what: str) -> Iterator[None]:
    """Says of the algorithm called `name` that it cannot be constructed itself, as where it needs a GPU."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"{name} cannot be given {what}: it cannot be constructed itself ({first_line(error)})"
        ) from error


def optimizers_by_name(algorithm: Any) -> dict[str, torch.optim.Optimizer]:
    """An algorithm's optimizers, each once, by the first name that it has."""
    named = {id(v): (name, v) for name, v in reversed(vars(algorithm).items()) if isinstance(v, torch.optim.Optimizer)}
    return dict(reversed(named.values()))


def all_optimizers(algorithm: Any) -> list[torch.optim.Optimizer]:
    """An algorithm's optimizers, under whatever names."""
    return list(optimizers_by_name(algorithm).values())


def optimizers_of(algorithm: Any) -> list[torch.optim.Optimizer]:
    """An algorithm's optimizers that hold parameters of its featurizer."""
    own = set(algorithm.featurizer.parameters())
    return [
        optimizer
        for optimizer in all_optimizers(algorithm)
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
