"""DomainBed's table of a folder of runs beside ours."""

import csv
import io
import re
import subprocess
import sys

import pytest

METHODS = {
    "training-domain validation set": "training-domain",
    "leave-one-domain-out cross-validation": "leave-one-domain-out",
    "test-domain validation set (oracle)": "oracle",
}


def their_cells(printed):
    """(selection, dataset, algorithm, environment) to mean and error, of the tables that DomainBed prints."""
    cells, selection, dataset, columns = {}, "", "", []
    for line in printed.splitlines():
        if line.startswith("--------"):
            selection = METHODS[line.split("model selection method: ")[1].strip()]
            dataset = line.split("Dataset: ")[1].split(",")[0] if "Dataset:" in line else ""
        elif line.startswith("Algorithm"):
            columns = line.split()[1:-1]
        elif dataset and "+/-" in line:
            found = re.findall(r"([\d.]+) \+/- ([\d.]+)", line)
            for column, (mean, error) in zip(columns, found, strict=True):
                cells[selection, dataset, line.split()[0], column] = float(mean), float(error)
    return cells


def assert_same_table(folder, environment, n_cells):
    """DomainBed's table and ours of one folder have the same means and errors."""
    theirs = subprocess.run(
        [sys.executable, "-m", "dg_batchformer.domainbed", "collect", "--input_dir", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    ours = subprocess.run(
        [sys.executable, "-m", "dg_batchformer", "collect", "--input_dir", str(folder), "--format", "csv"],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = their_cells(theirs.stdout)
    assert len(expected) == n_cells
    cells = {
        (cell["selection"], cell["dataset"], cell["algorithm"], cell["environment"]): (
            float(cell["mean"]),
            float(cell["error"] or 0),
        )
        for cell in csv.DictReader(io.StringIO(ours.stdout))
        if cell["mean"]
    }
    for key, value in expected.items():
        assert cells[key] == pytest.approx(value, abs=0.0501), key  # they print one decimal
