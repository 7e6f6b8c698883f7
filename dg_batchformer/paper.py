"""The domain-generalization results of BatchFormer's paper, each with the command that reproduces it.

`paper_tables.csv` has them as printed (Hou et al., CVPR 2022, tables 6, 7, 14 and 15): mean and standard deviation in
percent by environment, with remarks.
"""

import csv
import json
import shlex
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from dg_batchformer.errors import InputError

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
    def remarks(self) -> list[str]:
        """Remarks for a reader of the row."""
        found = [entry["note"] for entry in self.entries if entry["note"]]
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
        words += ["--algorithms", self.algorithm, "--n_trials", "5" if self.is_own_baseline else "3"]
        words += ["--hparams", json.dumps(self.hparams), "--data_dir", data_dir]
        return shlex.join([*words, "--output_dir", f"paper/{self.protocol}-{self.backbone}-{self.dataset}"])


def rows() -> list[Row]:
    """All rows, in the order of the tables."""
    text = (files("dg_batchformer") / "paper_tables.csv").read_text(encoding="utf-8")
    grouped: dict[tuple[str, str, str, str, str, bool], list[PrintedCell]] = {}
    for entry in csv.DictReader(text.splitlines()):
        table, protocol, backbone = entry["table"], entry["protocol"], entry["backbone"]
        key = (table, protocol, backbone, entry["dataset"], entry["method"], entry["batchformer"] == "1")
        grouped.setdefault(key, []).append(entry)
    return [Row(*key, tuple(own)) for key, own in grouped.items()]


def listing(table: int | None, data_dir: str) -> str:
    """The rows of one table, or of all, with their commands."""
    found = rows()
    tables = sorted({int(row.table) for row in found})
    if table is not None and table not in tables:
        raise InputError(f"--table is {table}: expected one of {', '.join(map(str, tables))}")
    lines = []
    for row in found:
        if table in (None, int(row.table)):
            lines.append(f"table {row.table}, {row.dataset}, {row.backbone}: {row.algorithm}: {row.accuracies()}")
            lines += [f"  ({remark})" for remark in row.remarks]
            lines += [f"  {row.command(data_dir)}", ""]
    return "\n".join(lines)
