"""The paper's rows: as printed, and every command one that can be run."""

import dataclasses
import math
import shlex
from collections import Counter

import pytest
from factories import jobs_of
from scipy import stats

from dg_batchformer import cli
from dg_batchformer.cli import parser
from dg_batchformer.errors import InputError
from dg_batchformer.paper import LONG_TAIL_SYSTEMS, listing, long_tail_rows, rows, welch


def test_the_rows_are_those_of_the_tables():
    found = rows()
    assert sum(len(row.entries) for row in found) == 138
    assert sorted({row.table for row in found}) == ["14", "15", "6", "7"]
    (row,) = (row for row in found if row.table == "14" and row.algorithm == "MixStyle_BatchFormer")
    assert row.accuracies() == (
        "art_painting 84.8 ± 0.4, cartoon 75.3 ± 0.0, sketch 81.1 ± 0.4, photo 93.6 ± 0.0, Avg 83.7"
    )


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.table}-{row.backbone}-{row.dataset}-{row.algorithm}")
def test_every_command_plans_the_rows_runs(row, tmp_path):
    given = parser().parse_args(shlex.split(row.command(str(tmp_path)))[1:])
    own = {"n_trials": given.n_trials, "hparams": given.hparams, "protocol": given.protocol}
    jobs = jobs_of(tmp_path / "out", given.datasets, given.algorithms, **own)
    assert len(jobs) == 4 * (5 if row.is_own_baseline else 3)
    assert {(job.arguments.algorithm, job.arguments.protocol) for job in jobs} == {(row.algorithm, row.protocol)}
    assert f'"backbone": "{row.backbone}"' in jobs[0].arguments.hparams


def row_of(table, backbone, dataset, algorithm):
    (found,) = (
        row
        for row in rows()
        if (row.table, row.backbone, row.dataset, row.algorithm) == (table, backbone, dataset, algorithm)
    )
    return found


def test_welchs_test_of_a_printed_gain():
    """With one environment it is SciPy's; with several, the variances of their means add up."""
    row, base = (row_of("15", "resnet50", "OfficeHome", name) for name in ("IRM_BatchFormer", "IRM"))
    ends = [dataclasses.replace(one, entries=one.entries[:1]) for one in (row, base)]
    expected = stats.ttest_ind_from_stats(67.7, 0.2, 3, 66.8, 0.2, 3, equal_var=False).pvalue
    assert welch(*ends) == f"+0.90 points, Welch's test p {expected:.3f}, if all runs are independent"
    deviations = [float(cell["std"]) for one in (row, base) for cell in one.cells]
    parts = [deviation**2 / 3 / 16 for deviation in deviations]
    df = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    p = 2 * stats.t.sf(0.725 / math.sqrt(sum(parts)), df)
    assert welch(row, base) == f"+0.73 points, Welch's test p {p:.3f}, if all runs are independent"
    assert p == pytest.approx(0.009, abs=0.0005)
    pair = (row_of("7", "resnet18", "VLCS", name) for name in ("SWAD_BatchFormer", "SWAD"))
    assert welch(*pair) == "+0.60 points; no test, since deviations are missing"


def test_numbers_that_contradict_each_other_are_named():
    swad = row_of("14", "resnet50", "PACS", "SWAD")
    assert swad.contradictions == ["the printed average 88.1 is not that of its cells, 88.3"]
    assert "62.1" in row_of("15", "resnet18", "OfficeHome", "SWAD").contradictions[0]
    mixstyle = row_of("14", "resnet18", "PACS", "MixStyle")
    assert mixstyle.contradictions == ["deviations of 0.0 over 3 runs are hardly possible"]
    assert row_of("14", "resnet18", "PACS", "ERM").contradictions == []
    assert sum(bool(row.contradictions) for row in rows()) == 5


def test_the_long_tail_rows_are_those_of_the_tables():
    found = long_tail_rows()
    assert Counter(row.table for row in found) == {"1": 9, "2": 16, "3": 6, "4": 6, "19": 5, "20": 4}
    assert {row.system for row in found} == set(LONG_TAIL_SYSTEMS)
    (row,) = (row for row in found if row.backbone == "ResNet-10" and row.system == "Balanced Softmax" and row.layers)
    assert row.accuracies == {"all": "43.2", "many": "52.8", "medium": "40.7", "few": "24.9"}


@pytest.mark.parametrize("row", long_tail_rows(), ids=lambda row: f"{row.table}-{row.system}-{row.layers}")
def test_every_long_tail_row_has_an_answer(row, tmp_path):
    first, *others = row.lines(str(tmp_path))
    assert first.startswith(f"table {row.table}, {row.dataset}")
    if not row.here.flags:
        assert others == [f"  (not here: {row.here.remark})", ""]
        return
    given = parser().parse_args(shlex.split(others[-2])[1:])
    own = {"hparams": given.hparams, "imbalance": given.imbalance, "stage": given.stage}
    arguments = [job.arguments for job in jobs_of(tmp_path / "out", given.datasets, given.algorithms, **own)]
    assert len(arguments) == 4
    assert {one.algorithm.endswith("_BatchFormer") for one in arguments} == {bool(row.layers)}
    if row.layers:
        assert f'"batchformer_layers": {row.layers}' in arguments[0].hparams


def test_what_is_odd_about_a_row_is_said(capsys):
    assert cli.main(["paper", "--table", "6", "--data_dir", "mine"]) == 0
    printed = capsys.readouterr().out
    assert "SGD 30 epochs lr 0.001 drop at 24" in printed
    assert "no protocol here has that schedule" in printed
    assert "as released: BatchFormer keeps its random initial weights" in printed
    assert printed.count("dg-batchformer sweep launch --protocol tllib") == 2
    assert "--data_dir mine" in printed
    assert "table 14" not in printed


def test_an_unknown_table_is_refused():
    with pytest.raises(InputError, match="--table is 5: expected one of 1, 2, 3, 4, 6, 7, 14, 15, 19, 20"):
        listing(5, "DATA")
