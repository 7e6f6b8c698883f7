"""The formats, on a table made by hand."""

import csv
import io
import json

import pytest

from dg_batchformer.selection.pairs import base_of, differences
from dg_batchformer.selection.render import FORMATS, cell_text
from dg_batchformer.selection.table import AVERAGE, Cell, Section

ROWS = {
    "ERM": {
        "A": Cell({0: 0.8, 1: 0.82}),
        "C": Cell({0: 0.7}, "1 of 2 trials"),
        AVERAGE: Cell({0: 0.75}, "1 of 2 trials"),
    },
    "ERM_BatchFormer": {
        "A": Cell({0: 0.81, 1: 0.85}),
        "C": Cell({0: 0.69, 1: 0.71}),
        AVERAGE: Cell({0: 0.75, 1: 0.78}),
    },
    "SWAD": {
        "A": Cell(missing="0 of 2 trials"),
        "C": Cell({0: 0.6, 1: 0.6}),
        AVERAGE: Cell(missing="1 of 2 columns"),
    },
}
TABLE = Section("training-domain", "PACS", ("A", "C", AVERAGE), ROWS)
EMPTY = Section("leave-one-domain-out", "PACS", ("A",), {"ERM": {"A": Cell(missing="needs pair runs (--pairs)")}})


@pytest.mark.parametrize(
    ("cell", "signed", "text"),
    [
        (Cell({0: 0.8, 1: 0.82}), False, "81.0 ± 0.7"),
        (Cell({0: 0.8004}), False, "80.0"),
        (Cell({0: 0.8, 1: 0.82}, "2 of 3 trials"), False, "81.0 ± 0.7 (2 of 3 trials)"),
        (Cell(missing="0 of 3 trials"), False, "(0 of 3 trials)"),
        (Cell({0: 0.01, 1: 0.03}), True, "+2.0 ± 0.7"),
        (Cell({0: -0.0126}), True, "-1.3"),
    ],
)
def test_cell(cell, signed, text):
    assert cell_text(cell, signed=signed) == text


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("ERM_BatchFormer", "ERM"),
        ("BatchFormer", "ERM"),
        ("SWAD_BatchFormer", "SWAD"),
        ("ERM_BatchFormer_SWAD", "SWAD"),
        ("CORAL_BatchFormer_SWAD", "CORAL_SWAD"),
        ("mine:My_Own_BatchFormer", "mine:My_Own"),
        ("IRM_BatchFormer", None),
        ("ERM", None),
    ],
)
def test_base_of(name, base):
    among = ["ERM", "SWAD", "CORAL", "CORAL_SWAD", "CORAL_BatchFormer", "mine:My_Own", "IRM_SWAD"]
    assert base_of(name, among) == base


def test_differences_are_paired_by_trial():
    ((variant, (base, changes)),) = differences(TABLE).items()
    assert (variant, base) == ("ERM_BatchFormer", "ERM")
    assert changes["A"].values == {0: pytest.approx(0.01), 1: pytest.approx(0.03)}
    assert (changes["C"].values, changes["C"].missing) == ({0: pytest.approx(-0.01)}, "1 of 2 trials")


def test_text():
    lines = FORMATS["text"]([TABLE, EMPTY]).splitlines()
    assert lines[0] == "PACS, model selection: training-domain validation; 2 trials"
    cells = [line.split("  ") for line in lines]
    rows = {row[1].strip(): [part.strip() for part in row[2:] if part.strip()] for row in cells if len(row) > 3}
    assert rows["ERM"] == ["81.0 ± 0.7", "70.0 (1 of 2 trials)", "75.0 (1 of 2 trials)"]
    assert rows["change from ERM"] == ["+2.0 ± 0.7", "-1.0 (1 of 2 trials)", "+0.0 (1 of 2 trials)"]
    assert rows["SWAD"] == ["(0 of 2 trials)", "60.0 ± 0.0", "(1 of 2 columns)"]
    assert "  no number: needs pair runs (--pairs)" in lines
    assert max(map(len, lines)) <= 100


def test_markdown():
    lines = FORMATS["markdown"]([TABLE, EMPTY]).splitlines()
    assert lines[0] == "### PACS, model selection: training-domain validation; 2 trials"
    assert lines[2:5] == [
        "| Algorithm | A | C | Avg |",
        "|---|---:|---:|---:|",
        "| ERM | 81.0 ± 0.7 | 70.0 (1 of 2 trials) | 75.0 (1 of 2 trials) |",
    ]
    assert "no number: needs pair runs (--pairs)" in lines


def test_latex():
    lines = FORMATS["latex"]([TABLE, EMPTY]).splitlines()
    assert r"\begin{tabular}{lccc}" in lines
    assert r"ERM\_BatchFormer & 83.0 $\pm$ 1.4 & 70.0 $\pm$ 0.7 & 76.5 $\pm$ 1.1 \\" in lines
    assert all(line.startswith("%") for line in lines if "model selection" in line)


def test_csv_and_json_hold_the_same_cells():
    flat = json.loads(FORMATS["json"]([TABLE, EMPTY]))
    assert flat[0] == {
        "selection": "training-domain",
        "protocol": "domainbed",
        "dataset": "PACS",
        "algorithm": "ERM",
        "environment": "A",
        "mean": pytest.approx(81.0),
        "stderr": pytest.approx(1 / 2**0.5),
        "n": 2,
    }
    assert len(flat) == 7
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"]([TABLE, EMPTY]))))
    assert [{k: str(v) for k, v in entry.items()} for entry in flat] == rows
