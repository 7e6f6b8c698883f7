"""A finished run as the table needs it: what it is, and its checkpoints as columns."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.runs.records import Record, RunKey

Floats = npt.NDArray[np.float64]

DOMAINBED_ENVIRONMENTS = {
    "RotatedMNIST": ("0", "15", "30", "45", "60", "75"),
    "ColoredMNIST": ("+90%", "+80%", "-90%"),
    "DomainNet": ("clip", "info", "paint", "quick", "real", "sketch"),
    "SVIRO": ("aclass", "escape", "hilux", "i3", "lexus", "tesla", "tiguan", "tucson", "x5", "zoe"),
}
"""Of datasets that DomainBed alone runs; its records name no environment."""

SHARED = ("backbone", "weights", "batch_norm", "data_fingerprint", "skipped_images", "device", "versions")
"""What a record says of how it was made that many runs have in common."""

OWN_ARGS = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed", "seed", "output_dir", "data_dir")
"""Arguments in which the runs of one sweep differ, or that change no result."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its checkpoints by rising step, an accuracy as a share for each and for each environment.

    `steps` is (checkpoints,); `inside` and `out` (checkpoints, environments) are accuracies on the in- and out-splits,
    and `macro` those on the in-splits averaged over classes, NaN where the records have none. `shared` is what its
    records say of how they were made and alike in many runs; `own` are its `hparams`, the `args` that are its own, and
    SWAD's `swad_window`.
    """

    key: RunKey
    folder: str
    steps: npt.NDArray[np.int64]
    inside: Floats
    out: Floats
    macro: Floats
    shared: dict[str, Any]
    own: dict[str, Any]

    @property
    def n_environments(self) -> int:
        return self.inside.shape[1]

    @property
    def hparams(self) -> dict[str, Any]:
        hparams: dict[str, Any] = self.own["hparams"]
        return hparams

    @property
    def args(self) -> dict[str, Any]:
        """All arguments of the run."""
        return {**self.shared["args"], **self.own["args"]}


def made(key: RunKey, folder: str, records: Sequence[Record], n_environments: int) -> Run:
    """The run that some records of `n_environments` environments, by rising step, are of."""

    def column(suffix: str) -> Floats:
        names = [f"env{i}_{suffix}" for i in range(n_environments)]
        return np.array([[record.get(name, np.nan) for name in names] for record in records], dtype=np.float64)

    steps = np.array([record["step"] for record in records], dtype=np.int64)
    return described(key, folder, records[-1], steps, column("in_acc"), column("out_acc"), column("in_macro_acc"))


def described(
    key: RunKey,
    folder: str,
    last: Record,
    steps: npt.NDArray[np.int64],
    inside: Floats,
    out: Floats,
    macro: Floats,
) -> Run:
    """The run with some columns, of which its last record says how it was made."""
    args = last["args"]
    shared = {name: last[name] for name in SHARED if name in last}
    shared["environments"] = last.get("environments")
    shared["args"] = {name: value for name, value in args.items() if name not in OWN_ARGS}
    hparams = last.get("hparams")
    own = {
        "hparams": hparams if isinstance(hparams, dict) else {},
        "args": {name: args[name] for name in OWN_ARGS if name in args},
        "swad_window": last.get("swad_window"),
    }
    return Run(key, folder, steps, inside, out, macro, shared, own)


def count_environments(names: Container[str]) -> int:
    """How many environments there are both accuracies of among the names of a record, counted as DomainBed does."""
    n = 0
    while f"env{n}_in_acc" in names and f"env{n}_out_acc" in names:
        n += 1
    return n


def catalogued(dataset: str) -> tuple[str, ...]:
    """DomainBed's names of a dataset's environments; none of one that the catalogue has not."""
    if dataset in BENCHMARKS:
        return BENCHMARKS[dataset].environments
    return DOMAINBED_ENVIRONMENTS.get(dataset, ())


def environment_names(dataset: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """The environments of a dataset by DomainBed's names, else by those in its runs, else by number."""
    if known := catalogued(dataset):
        return known
    for run in runs:
        names = run.shared["environments"] or ()
        if len(names) == run.n_environments:
            return tuple(names)
    return tuple(map(str, range(runs[0].n_environments))) if runs else ()
