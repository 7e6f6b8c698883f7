"""What a run runs on."""

import contextlib
import gc
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """While this lasts Python looks for no cycles: among values that all stay, each search is for nothing."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def available_cores() -> int:
    """CPU cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Not every SLURM cluster binds processes to the cores it gave them.
    return min(cores, int(os.environ.get("SLURM_CPUS_ON_NODE", cores)))


def threads_of_each(n_workers: int) -> int:
    """A worker's share of the cores."""
    return max(1, available_cores() // n_workers)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that change results."""
    packages = ("dg-batchformer", "torch", "torchvision", "numpy", "pillow")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def device() -> str:
    """Where runs compute: "cuda", or "cpu" where there is no GPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu_count() -> int:
    """GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()


def gpu_gb() -> float | None:
    """The most memory that this process has had on its GPU at once, in GiB; None where there is no GPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


def device_name() -> str:
    """The GPU's name, or "cpu" with the number of threads in use."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu, {torch.get_num_threads()} threads"
