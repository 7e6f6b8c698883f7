"""Copies from the host to a GPU that make neither wait."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def sent(values: Tensor, device: str | torch.device) -> Tensor:
    """Values on their way to a device.

    To a GPU they go from pinned memory on a stream of its own, while it computes what it was given before; what it is
    given next waits for them.
    """
    device = torch.device(device)
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    stream = copy_stream()
    with torch.cuda.stream(stream):
        moved = values.pin_memory().to(device, non_blocking=True)
    current = torch.cuda.current_stream()
    current.wait_stream(stream)
    # Or the memory could be given to another copy while it is still in use.
    moved.record_stream(current)
    return moved


@functools.cache
def copy_stream() -> torch.cuda.Stream:
    """The stream of copies to the GPU."""
    return torch.cuda.Stream()
