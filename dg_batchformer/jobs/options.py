"""How a sweep's runs are run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """What a launcher heeds: flags of `sweep launch` under their own names."""

    n_workers: int | None = None
    gpus: tuple[int, ...] | None = None
    jobs_per_gpu: int = 1
    retries: int = 0
    timeout: float | None = None
    """Minutes that a run may take."""
    keep_going: bool = True
    slurm: Mapping[str, str | int] = field(default_factory=dict)
    """SLURM's parameters by submitit's names."""
    dry_run: bool = False
