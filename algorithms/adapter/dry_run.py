"""The dry run: one update on a copy of an adapted algorithm, to find unsuitable algorithms before training."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dg_batchformer import machine
from dg_batchformer.contracts import update
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError, first_line

from . import Adapter, Task
from .rows import Rows, check_rows

SAMPLES = 2
"""The samples of each environment in a dry run."""


def dry_run(algorithm: Any, modified: type) -> None:
    """Raises InputError if an external update does not train on features as it does on inputs.

    The class `modified` of a modifier calls it after adding its part; later modifiers are not included. One update of a
    copy on random inputs changes no generator and nothing in the algorithm. Our objectives need none.
    """
    if not isinstance(algorithm, Adapter):
        return
    base, _, modifier = modified.__name__.rpartition("_")
    refused = f"{base} does not work with {modifier}:"
    device = machine.device()
    try:
        trial: Any = copy.deepcopy(algorithm).to(device)  # type: ignore[attr-defined]
    except Exception as error:  # an external algorithm may have anything
        raise InputError(f"{refused} it cannot be copied for a trial update ({first_line(error)})") from error
    trial.__class__ = modified
    beside = getattr(trial, trial.beside) if trial.beside else nn.Module()
    parts = {name: parameter for name, parameter in beside.named_parameters() if parameter.requires_grad}
    reached: set[str] = set()
    for name, parameter in parts.items():
        parameter.register_hook(lambda gradient, name=name: reached.add(name))

    def watch(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module.forward, Rows):
            check_rows(inputs[0])
        features = output if isinstance(output, Tensor) else output[0]
        if features.requires_grad:
            features.register_hook(lambda gradient: reached.add("features"))

    trial.featurizer.register_forward_hook(watch)
    with undisturbed_generators(device):
        try:
            update(trial, random_minibatches(trial.task, device))
        except (InputError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(
                f"{refused} its update fails when features replace the inputs "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error
    # An update may also write gradients itself, for example after an update of a copy.
    reached |= {name for name, parameter in parts.items() if parameter.grad is not None}
    if "features" not in reached:
        raise InputError(
            f"{refused} its update sends no gradient back to the features, so the featurizer would not be trained"
        )
    if not reached.issuperset(parts):
        raise InputError(f"{refused} its update sends no gradient to {modifier}")


def random_minibatches(task: Task, device: str) -> Minibatches:
    """A few random samples of each environment."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % task.num_classes
    return [
        (torch.randn(SAMPLES, *task.input_shape, generator=generator).to(device), labels.to(device))
        for _ in range(task.num_domains)
    ]


@contextmanager
def undisturbed_generators(device: str) -> Iterator[None]:
    """Restores the global generators at the end of the context."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
