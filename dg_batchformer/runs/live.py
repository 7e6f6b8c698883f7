"""Where a run is while it lasts, in a small file of its folder that others may read."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dg_batchformer.runs import records

LIVE = "live.json"


@dataclass(frozen=True)
class Live:
    """The figures of a run that lasts: `step` of `steps` are done.

    `gpu_gb` is the most memory that it had on its GPU at once, None on a CPU.
    """

    step: int
    steps: int
    images_per_second: float
    gpu_gb: float | None
    seconds_left: float


def write(folder: Path, live: Live) -> None:
    """Replaces the figures of a run."""
    # They are only for show: no run fails for want of them.
    with contextlib.suppress(OSError):
        records.mark(folder / LIVE, json.dumps(asdict(live)))


def read(folder: Path) -> Live | None:
    """The figures of a run; None where it has written none."""
    try:
        return Live(**json.loads((folder / LIVE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def clear(folder: Path) -> None:
    """Deletes the figures of a run that does not last any more."""
    with contextlib.suppress(OSError):
        (folder / LIVE).unlink(missing_ok=True)
