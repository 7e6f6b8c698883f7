"""The machine of a run: cores, GPUs, and versions."""

import contextlib
import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Options of glibc's `mallopt`, from malloc.h."""


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Turns off the search for reference cycles, which finds nothing among values that all stay."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def available_cores() -> int:
    """The CPU cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Not every SLURM cluster binds processes to their cores.
    return min(cores, int(os.environ.get("SLURM_CPUS_ON_NODE", cores)))


def threads_of_each(n_workers: int) -> int:
    """The share of the cores of one worker."""
    return max(1, available_cores() // n_workers)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that change results."""
    packages = ("dg-batchformer", "torch", "torchvision", "numpy", "pillow")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for later use, in this process and those forked from it; a no-op elsewhere.

    Otherwise each large tensor on a CPU is new memory of the system, which clears it page by page: half of the time of
    a forward pass.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # Larger ones are rare, and what they leave between smaller ones would cost memory.
        libc.mallopt(MMAP_THRESHOLD, 2**27)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def device() -> str:
    """The device of runs: "cuda", or "cpu" without a GPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu_count() -> int:
    """The number of GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()


def gpu_gb() -> float | None:
    """The peak of this process's GPU memory in GiB; None without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


def device_name() -> str:
    """The name of the GPU, or "cpu" with the number of threads in use."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu, {torch.get_num_threads()} threads"
