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

from dg_batchformer.errors import InputError

Features = Callable[[nn.Module, nn.Module | None], list[Tensor]]
"""Returns features by environment, computed now by a featurizer and a module beside it, or by copies of both."""


class RefusedError(InputError):
    """Why an update cannot run on features."""


class Rows:
    """Replaces a featurizer's `forward`: its inputs are rows of the identity matrix, which select samples' features.

    So an algorithm may use any part of the batch, in any order, mixed, and repeatedly. The features are computed over
    the whole batch, and again after a backward pass or a change of the featurizer's mode or weights. A copy of the
    network has its own features, from the copied featurizer and a copy of `beside`.
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
        # Autocast would round the features once more than those of the base.
        with torch.autocast(rows.device.type, enabled=False):
            # The last column belongs to no sample: see `check_rows`.
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
        return weakref.ref(featurizer)


def check_rows(rows: Tensor) -> None:
    """Raises RefusedError if an input is not a row of the identity matrix or a mixture of rows.

    The last column belongs to no sample and is 0: shifted, scaled or noisy inputs change it or the sum.
    """
    unchanged = rows.ndim == 2 and bool(rows.min() >= 0) and not rows[:, -1].any()
    if not unchanged or not torch.allclose(rows.sum(1), torch.ones(len(rows)).to(rows)):
        raise RefusedError("its update changes the inputs, which are features here")


@contextmanager
def standing_in(featurizer: nn.Module, rows: Rows) -> Iterator[None]:
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
