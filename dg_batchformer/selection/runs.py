"""A finished run as the table needs it: what it is, and its checkpoints as an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.runs.records import Checkpoint, RunKey

Floats = npt.NDArray[np.float64]

DOMAINBED_ENVIRONMENTS = {
    "RotatedMNIST": ("0", "15", "30", "45", "60", "75"),
    "ColoredMNIST": ("+90%", "+80%", "-90%"),
    "DomainNet": ("clip", "info", "paint", "quick", "real", "sketch"),
    "SVIRO": ("aclass", "escape", "hilux", "i3", "lexus", "tesla", "tiguan", "tucson", "x5", "zoe"),
}
"""Of datasets that DomainBed alone runs; its records name no environment."""

MADE = ("backbone", "weights", "data_fingerprint", "skipped_images", "versions", "environments", "swad_window")
"""Names under which a record says how it was made."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run with its checkpoints by rising step.

    `steps` is (checkpoints,), and `accuracies`, shares, are (checkpoints, 3, environments), in `Checkpoint`'s order.
    `args`, `hparams` and what its records say under `MADE` are those of the last checkpoint.
    """

    key: RunKey
    folder: str
    steps: npt.NDArray[np.int64]
    accuracies: Floats
    args: dict[str, Any]
    hparams: dict[str, Any]
    made: dict[str, Any]

    @classmethod
    def from_records(cls, folder: str, records: Sequence[Checkpoint]) -> FinishedRun:
        """The run of some records, by rising step, that have one key and number of environments."""
        about = records[-1].about
        record = about.record
        hparams = record.get("hparams")
        return cls(
            about.key,
            folder,
            np.array([one.step for one in records], dtype=np.int64),
            np.array([one.accuracies for one in records], dtype=np.float64).reshape(-1, 3, about.n_environments),
            record["args"],
            hparams if isinstance(hparams, dict) else {},
            {name: record[name] for name in MADE if name in record},
        )

    @property
    def inside(self) -> Floats:
        """(checkpoints, environments): accuracies on the in-splits."""
        return self.accuracies[:, 0]

    @property
    def out(self) -> Floats:
        """The same on the out-splits."""
        return self.accuracies[:, 1]

    @property
    def macro(self) -> Floats:
        """Those on the in-splits averaged over classes, NaN where the records have none."""
        return self.accuracies[:, 2]

    @property
    def n_environments(self) -> int:
        return self.accuracies.shape[2]


def catalogued(dataset: str) -> tuple[str, ...]:
    """DomainBed's names of a dataset's environments; none of one that the catalogue has not."""
    if dataset in BENCHMARKS:
        return BENCHMARKS[dataset].environments
    return DOMAINBED_ENVIRONMENTS.get(dataset, ())


def environment_names(dataset: str, runs: Sequence[FinishedRun]) -> tuple[str, ...]:
    """The environments of a dataset by DomainBed's names, else by those in its runs, else by number."""
    if known := catalogued(dataset):
        return known
    for run in runs:
        names = run.made.get("environments") or ()
        if len(names) == run.n_environments:
            return tuple(names)
    return tuple(map(str, range(runs[0].n_environments))) if runs else ()
