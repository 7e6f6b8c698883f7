"""The results of BatchFormer's paper (Hou et al., CVPR 2022) on domain generalization and on long tails.

`paper_tables.csv` has tables 6, 7, 14 and 15 as printed: mean and standard deviation in percent by environment, with
remarks; each row has the command that reproduces it. `paper_long_tails.csv` has tables 1 to 4, 19 and 20: accuracies in
percent by shot. Their datasets have one environment, so each row says what stands here for its system.
"""

import csv
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from dg_batchformer.errors import InputError
from dg_batchformer.selection.inference import Estimate

AVERAGE = "avg"

PrintedCell = dict[str, str]
"""A line of the file: an accuracy on an environment, by column."""


@dataclass(frozen=True)
class Row:
    """One row of a table: an algorithm on a benchmark, with its entries by environment."""

    table: str
    protocol: str
    backbone: str
    dataset: str
    method: str
    batchformer: bool
    entries: tuple[PrintedCell, ...]

    @property
    def algorithm(self) -> str:
        return f"{self.method}_BatchFormer" if self.batchformer else self.method

    @property
    def names(self) -> tuple[str, ...]:
        """What a row and its base have in common."""
        return self.table, self.protocol, self.backbone, self.dataset, self.method

    @property
    def is_own_baseline(self) -> bool:
        """Whether it has a special schedule of the paper."""
        return (self.table, self.method) == ("6", "ERM")

    @property
    def hparams(self) -> dict[str, Any]:
        """The differences from the protocol's hyper-parameters."""
        own: dict[str, Any] = {"backbone": self.backbone}
        if self.batchformer and self.protocol == "tllib":
            own["batchformer_as_released"] = True
        elif self.batchformer and self.backbone == "resnet50":
            own["batchformer_lr_scale"] = 0.1
        return own

    @property
    def cells(self) -> list[PrintedCell]:
        """The entries of single environments."""
        return [entry for entry in self.entries if entry["environment"] != AVERAGE]

    @property
    def n_runs(self) -> int:
        """The runs behind a number, as the paper says."""
        return 5 if self.is_own_baseline else 3

    @property
    def contradictions(self) -> list[str]:
        """What cannot be right in the printed numbers."""
        found = []
        printed = [float(entry["mean"]) for entry in self.entries if entry["environment"] == AVERAGE]
        cells = [float(entry["mean"]) for entry in self.cells]
        # Each printed number is off by at most 0.05.
        if printed and len(cells) > 1 and abs(printed[0] - sum(cells) / len(cells)) > 0.1 + 1e-9:
            found.append(f"the printed average {printed[0]} is not that of its cells, {sum(cells) / len(cells):.1f}")
        if sum(float(entry["std"] or 1) == 0 for entry in self.cells) > 1:
            found.append(f"deviations of 0.0 over {self.n_runs} runs are hardly possible")
        return found

    @property
    def remarks(self) -> list[str]:
        """Remarks for a reader of the row."""
        found = [entry["note"] for entry in self.entries if entry["note"]] + self.contradictions
        if self.is_own_baseline:
            found.append("no protocol here has that schedule: the command uses the one of protocol tllib")
        if self.hparams.get("batchformer_as_released"):
            found.append("as released: BatchFormer keeps its random initial weights; omit the preset to train it")
            if self.method == "IRM":
                found.append("the scripts take 3 environments a step, so the penalty's groups are thirds of [z ; h]")
        if "batchformer_lr_scale" in self.hparams:
            found.append("BatchFormer's learning rate follows the authors' advice for ResNet-50; the paper gives none")
        return found

    def accuracies(self) -> str:
        """Mean and standard deviation by environment, then the average."""
        cells = []
        for entry in self.entries:
            name = "Avg" if entry["environment"] == AVERAGE else entry["environment"]
            cells.append(f"{name} {entry['mean']}" + (f" ± {entry['std']}" if entry["std"] else ""))
        return ", ".join(cells)

    def command(self, data_dir: str) -> str:
        """The sweep that reproduces this row, under training-domain validation."""
        words = ["dg-batchformer", "sweep", "launch", "--protocol", self.protocol, "--datasets", self.dataset]
        words += ["--algorithms", self.algorithm, "--n_trials", str(self.n_runs)]
        words += ["--hparams", json.dumps(self.hparams), "--data_dir", data_dir]
        return shlex.join([*words, "--output_dir", f"paper/{self.protocol}-{self.backbone}-{self.dataset}"])

    def gain(self) -> list[str]:
        """The gain over the same method without BatchFormer, with Welch's test from the printed numbers."""
        bases = [row for row in rows() if row.names == self.names and not row.batchformer] if self.batchformer else []
        return [f"BatchFormer's gain: {welch(self, base)}" for base in bases]

    def lines(self, data_dir: str) -> list[str]:
        """The row as printed, its remarks, and its command."""
        where = f"table {self.table}, {self.dataset}, {self.backbone}"
        remarks = [f"  ({remark})" for remark in [*self.remarks, *self.gain()]]
        return [f"{where}: {self.algorithm}: {self.accuracies()}", *remarks, f"  {self.command(data_dir)}", ""]


def welch(row: Row, base: Row) -> str:
    """The mean gain over environments, with Welch's two-sided test from means, deviations and numbers of runs.

    It assumes that all runs are independent, and a sample's deviations; the degrees of freedom are Satterthwaite's.
    """
    pairs = list(zip(row.cells or row.entries, base.cells or base.entries, strict=True))
    gain = sum(float(own["mean"]) - float(other["mean"]) for own, other in pairs) / len(pairs)
    parts = [
        (float(cell["std"]) ** 2 / one.n_runs / len(pairs) ** 2, one.n_runs - 1)
        for one in (row, base)
        for cell in one.cells
        if cell["std"]
    ]
    variance = sum(own for own, _ in parts)
    if len(parts) < 2 * len(pairs) or not variance:
        return f"{gain:+.2f} points; no test, since deviations are missing"
    estimate = Estimate(gain, variance**0.5, variance**2 / sum(own**2 / df for own, df in parts))
    p = f"p {estimate.p:.3f}" if estimate.p >= 0.001 else "p < 0.001"
    return f"{gain:+.2f} points, Welch's test {p}, if all runs are independent"


class Here(NamedTuple):
    """What stands here for a system of the paper: the flags of a sweep ("": nothing), and a remark."""

    flags: str
    remark: str = ""


LONG_TAIL_SYSTEMS = {
    "Balanced Softmax": Here("--algorithms BalancedSoftmax"),
    "BALMS": Here("--algorithms BalancedSoftmax", "without its meta sampler"),
    "PaCo without its contrastive loss": Here("--algorithms BalancedSoftmax", "without PaCo's strong augmentation"),
    "cRT": Here("--algorithms ERM --stage crt"),
    "RIDE": Here("", "it has several experts, each with its own last layers, not one featurizer and classifier"),
    "RIDE as published": Here("", "see RIDE"),
    "RIDE in two stages": Here("", "its first stage is a RIDE too; see RIDE"),
    "PaCo": Here("", "it needs two views of an image, a momentum encoder and a queue of features"),
    "OLTR": Here("", "it needs a memory of class centroids and attention over maps"),
    "LFME": Here("", "several teachers, one for each shot, teach a student"),
    "BBN": Here("", "it has two branches with different samplers"),
    "tau-normalized": Here("", "it rescales a trained classifier: there is no training to compare"),
}


@dataclass(frozen=True)
class LongTailRow:
    """One row of a long-tail table; `layers` are BatchFormer's, 0 without it. A missing accuracy is ""."""

    table: str
    dataset: str
    backbone: str
    system: str
    layers: int
    accuracies: dict[str, str]

    @property
    def here(self) -> Here:
        return LONG_TAIL_SYSTEMS[self.system]

    def command(self, data_dir: str) -> str:
        """A sweep of the system on a long tail over the environments of PACS; "" if it is not here."""
        if not self.here.flags:
            return ""
        words = ["dg-batchformer", "sweep", "launch", *self.here.flags.split()]
        if self.layers:
            # The paper trains BatchFormer at a tenth of the learning rate with balanced softmax.
            hparams = {"batchformer_lr_scale": 0.1, "batchformer_layers": self.layers}
            words = [f"{word}_BatchFormer" if word == "BalancedSoftmax" else word for word in words]
            words += ["--hparams", json.dumps(hparams)]
        words += ["--datasets", "PACS", "--data_dir", data_dir, "--imbalance", "0.02", "--n_hparams", "1"]
        return shlex.join([*words, "--output_dir", "paper/long-tail-PACS"])

    def lines(self, data_dir: str) -> list[str]:
        """The row as printed, and what stands here for it."""
        name = self.system + (f" + BatchFormer, {self.layers} layer{'s' * (self.layers > 1)}" if self.layers else "")
        where = ", ".join(filter(None, [self.dataset, self.backbone]))
        numbers = ", ".join(f"{shot.capitalize()} {value}" for shot, value in self.accuracies.items() if value)
        remark = f"not here: {self.here.remark}" if not self.here.flags else self.here.remark
        found = [f"table {self.table}, {where}: {name}: {numbers}", *[f"  ({remark})"] * bool(remark)]
        if command := self.command(data_dir):
            found += ["  (the dataset has one environment; the same system on a long tail over several:)"]
            found += [f"  {command}"]
        return [*found, ""]


def _entries(name: str) -> Iterator[PrintedCell]:
    """The lines of a file in this package."""
    return csv.DictReader((files("dg_batchformer") / name).read_text(encoding="utf-8").splitlines())


def long_tail_rows() -> list[LongTailRow]:
    """All rows of the long-tail tables, in their order."""
    return [
        LongTailRow(
            entry["table"],
            entry["dataset"],
            entry["backbone"],
            entry["system"],
            int(entry["layers"] or 0),
            {shot: entry[shot] for shot in ("all", "many", "medium", "few")},
        )
        for entry in _entries("paper_long_tails.csv")
    ]


def rows() -> list[Row]:
    """All rows on domain generalization, in the order of the tables."""
    grouped: dict[tuple[str, str, str, str, str, bool], list[PrintedCell]] = {}
    for entry in _entries("paper_tables.csv"):
        table, protocol, backbone = entry["table"], entry["protocol"], entry["backbone"]
        key = (table, protocol, backbone, entry["dataset"], entry["method"], entry["batchformer"] == "1")
        grouped.setdefault(key, []).append(entry)
    return [Row(*key, tuple(own)) for key, own in grouped.items()]


def listing(table: int | None, data_dir: str) -> str:
    """The rows of one table, or of all, with their commands."""
    found: list[Row | LongTailRow] = [*rows(), *long_tail_rows()]
    tables = sorted({int(row.table) for row in found})
    if table is not None and table not in tables:
        raise InputError(f"--table is {table}: expected one of {', '.join(map(str, tables))}")
    chosen = [row for row in found if table in (None, int(row.table))]
    return "\n".join(line for row in sorted(chosen, key=lambda row: int(row.table)) for line in row.lines(data_dir))
