"""How a sweep is run: what changes no result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """The flags of `sweep launch` about who runs the runs, and what becomes of those that fail.

    A failed run is tried `retries` times more, unless another try would end the same; `timeout` is in minutes, of one
    try. Without `keep_going` no run begins after one has failed for good. `slurm` has submitit's parameters of a job by
    their names; a `dry_run` prints and does nothing.
    """

    n_workers: int | None = None
    gpus: tuple[int, ...] | None = None
    jobs_per_gpu: int = 1
    retries: int = 0
    timeout: float | None = None
    keep_going: bool = True
    slurm: Mapping[str, str | int] = field(default_factory=dict)
    dry_run: bool = False

    def problems(self) -> list[str]:
        """Numbers out of their range."""
        found = []
        for name, least in (("n_workers", 1), ("jobs_per_gpu", 1), ("retries", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                found.append(f"--{name} is {value}: expected at least {least}")
        if self.timeout is not None and not self.timeout > 0:
            found.append(f"--timeout is {self.timeout:g}: expected minutes above 0")
        return found
