"""Rows of the identity matrix instead of inputs: a featurizer that returns features computed once."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from dg_batchformer.errors import InputError

Features = Callable[[nn.Module, nn.Module | None], list[Tensor]]
"""Returns features by environment, computed now by a featurizer and a module beside it, or by copies of both."""


class RefusedError(InputError):
    """Why an update cannot run on features."""


def select(rows: Tensor, samples: Tensor, outputs: Any, n: int) -> Any:
    """The outputs of the samples behind rows (m, R), from tensors with `n` samples in their first possible dimension.

    `samples` (R,) is the sample of each column. A mixture of rows gives the mixture of outputs.
    """
    shares = rows.new_zeros(len(rows), n).index_add(1, samples, rows)

    def of_rows(output: Any) -> Any:
        if not isinstance(output, Tensor) or n not in output.shape:
            return output
        place = output.shape.index(n)
        ordered = output.movedim(place, 0)
        return (shares.to(output.dtype) @ ordered.flatten(1)).unflatten(1, ordered.shape[1:]).movedim(0, place)

    return tree_map(of_rows, outputs)


class Rows:
    """Replaces a featurizer's `forward`: its inputs are rows of the identity matrix, which select samples' features.

    So an algorithm may use any part of the batch, in any order, mixed, and repeatedly. The features are computed over
    the whole batch, and again after a backward pass or a change of the featurizer's mode, weights or other arguments. A
    copy of the network has its own features, from the copied featurizer and a copy of `beside`. Outputs beside the
    features, such as maps of several layers, are those of the samples; `samples` (R,) is the sample of each row.
    """

    def __init__(self, featurizer: nn.Module, beside: nn.Module | None, compute: Features, samples: Tensor) -> None:
        self.featurizer, self.beside, self.compute, self.samples = featurizer, beside, compute, samples
        self.others: list[Any] = []
        self.replaced = featurizer.forward
        self.features: Tensor | None = None
        self.state: Any = None
        self.copies: list[Rows] = []

    def __call__(self, rows: Tensor, *more: Any, **named: Any) -> Any:
        state: list[Any] = [(parameter.data_ptr(), parameter._version) for parameter in self.featurizer.parameters()]
        state += [module.training for module in self.featurizer.modules()] + [more, named]
        if self.features is None or self.state != state:
            self.features, self.state = self._compute(more, named), state
        # Autocast would round the features once more than those of the base.
        with torch.autocast(rows.device.type, enabled=False):
            # The last column belongs to no sample: see `check_rows`.
            features = rows[:, :-1].to(self.features.dtype) @ self.features
            n = int(self.samples.max()) + 1 if self.others else 0
            others = [select(rows[:, :-1], self.samples, one, n) for one in self.others]
        return (features, *others) if others else features

    def __deepcopy__(self, memo: dict[int, Any]) -> Rows:
        featurizer, beside = copy.deepcopy((self.featurizer, self.beside), memo)
        twin = Rows(featurizer, beside, self.compute, self.samples)
        twin.replaced = copy.deepcopy(self.replaced, memo)
        twin.copies = self.copies
        self.copies.append(twin)
        return twin

    def _compute(self, more: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        self.others = []

        def forward(x: Tensor) -> Any:
            output = self.replaced(x, *more, **named)
            if isinstance(output, Tensor):
                return output
            first, *self.others = tree_map(lambda one: one, output)  # a copy of the containers
            return first

        self.featurizer.forward = forward if more or named else self.replaced
        try:
            # An update may first use features without gradient and need the gradient later.
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
        """Releases the features and, in a copy, the copied featurizer."""
        featurizer = self.featurizer
        vars(featurizer).pop("forward", None)
        del self.featurizer, self.replaced
        self.features = self.beside = None
        self.others = []
        return weakref.ref(featurizer)


class FrozenRows:
    """Replaces the `forward` of a frozen twin of the featurizer: it gives the outputs of the samples behind rows."""

    def __init__(self, twin: nn.Module, images: Tensor, samples: Tensor) -> None:
        self.twin, self.images, self.samples = twin, images, samples
        self.replaced = twin.forward
        self.copies: list[Any] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenRows:
        """A copy of a twin is frozen too, so that its outputs are the same."""
        return self

    def __call__(self, rows: Tensor, *more: Any, **named: Any) -> Any:
        outputs = self.replaced(self.images, *more, **named)
        with torch.autocast(rows.device.type, enabled=False):
            return select(rows[:, :-1], self.samples, outputs, len(self.images))

    def end(self) -> None:
        """Restores the twin."""
        vars(self.twin).pop("forward", None)


def frozen_twins(algorithm: nn.Module, featurizer: nn.Module) -> list[nn.Module]:
    """Modules of the featurizer's class without trained parameters, such as the pre-trained network of MIRO."""
    return [
        module
        for module in algorithm.children()
        if type(module) is type(featurizer)
        and module is not featurizer
        and not any(parameter.requires_grad for parameter in module.parameters())
    ]


def check_rows(rows: Tensor) -> None:
    """Raises RefusedError if an input is not a row of the identity matrix or a mixture of rows.

    The last column belongs to no sample and is 0: shifted, scaled or noisy inputs change it or the sum.
    """
    unchanged = rows.ndim == 2 and bool(rows.min() >= 0) and not rows[:, -1].any()
    if not unchanged or not torch.allclose(rows.sum(1), torch.ones(len(rows)).to(rows)):
        raise RefusedError("its update changes the inputs, which are features here")


@contextmanager
def standing_in(featurizer: nn.Module, rows: Rows | FrozenRows) -> Iterator[None]:
    """Makes `rows` the featurizer's `forward` during the context.

    RefusedError if a copy of the featurizer remains: it would have the features of this batch for ever.
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
            raise RefusedError(
                "its update keeps a copy of the network, which would hold the features of one batch for ever"
            )


class Unlabeled(Sequence[Tensor]):
    """Replaces unlabeled samples, which an algorithm may ignore but not use."""

    def __getitem__(self, index: Any) -> Any:
        raise RefusedError("its update uses unlabeled samples, for which this is not defined")

    def __len__(self) -> int:
        return len(self[:])
