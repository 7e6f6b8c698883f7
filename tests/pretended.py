"""A GPU that is pretended: tensors have devices and shapes, but no values.

An operation on tensors of two devices fails, and so does one that needs a value, for which a real GPU would make the
CPU wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


class PretendedGPU(FakeTensorMode):
    """In this mode the device "cuda" is there; `sent` takes real tensors too."""

    def shape_of(self, value: Tensor) -> Tensor:
        """A tensor without values, on its device."""
        return self.from_tensor(value.detach())

    def there(self, value: Tensor) -> Tensor:
        """A tensor on the GPU."""
        shape = self.shape_of(value)
        with self:
            return shape.to("cuda")

    def moved(self, module: Any) -> Any:
        """A module on the GPU; torch's `to` cannot exchange parameters for such tensors."""
        for one in module.modules():
            for name, value in [*one._parameters.items(), *one._buffers.items()]:
                if value is None:
                    continue
                there = self.there(value)
                if name in one._parameters:
                    with self:
                        one._parameters[name] = nn.Parameter(there, value.requires_grad)
                else:
                    one._buffers[name] = there
        return module


class Beta:
    """Draws in place of torch's, which has no shapes without values."""

    def __init__(self, one: Tensor, other: Tensor, **options: Any) -> None:
        self.shape = (one + other).shape, one.device

    def sample(self, size: tuple[int, ...]) -> Tensor:
        return torch.empty(*size, *self.shape[0], device=self.shape[1])


def gradients(outputs: Any, inputs: Any, **options: Any) -> tuple[Tensor, ...]:
    """Zeros in place of gradients: the backward pass wants a real device."""
    return tuple(torch.zeros_like(one) for one in ([inputs] if isinstance(inputs, Tensor) else inputs))


@contextlib.contextmanager
def pretended_gpu() -> Iterator[PretendedGPU]:
    """A pretended GPU: backward passes and optimizer steps do nothing, and copies need no pinned memory.

    The coin that MixStyle tosses on the CPU always says yes.
    """
    from dg_batchformer.algorithms import mixstyle
    from dg_batchformer.data import augment, environments

    augment.imagenet.cache_clear()
    rand = torch.rand
    with contextlib.ExitStack() as stack:
        for module in (environments, mixstyle):
            stack.enter_context(mock.patch.object(module, "sent", lambda values, device: values.to(device)))
        stack.callback(augment.imagenet.cache_clear)
        stack.enter_context(mock.patch("torch.distributions.Beta", Beta))
        stack.enter_context(mock.patch("torch.rand", lambda *size, **how: 0.0 if size == ((),) else rand(*size, **how)))
        stack.enter_context(mock.patch.object(Tensor, "backward"))
        stack.enter_context(mock.patch("torch.autograd.grad", gradients))
        for optimizer in (torch.optim.Adam, torch.optim.SGD):
            stack.enter_context(mock.patch.object(optimizer, "step"))
        yield PretendedGPU(allow_non_fake_inputs=False)
