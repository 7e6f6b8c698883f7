"""`collect` and `leaderboard` as a user calls them."""

import csv
import itertools
import json
import shlex
import subprocess
import sys
from statistics import stdev

import numpy as np
import pytest
from factories import args, record, write_run

from dg_batchformer import cli, paper

ACCURACIES = {"ERM": (0.60, 0.70, 0.62), "ERM_BatchFormer": (0.70, 0.75, 0.80)}
"""By trial, in all environments."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three trials of two algorithms, whose last checkpoint is one point worse than the first."""
    folder = tmp_path_factory.mktemp("sweep")
    for i, (algorithm, trial, env) in enumerate(itertools.product(ACCURACIES, range(3), range(4))):
        accuracy = ACCURACIES[algorithm][trial]
        of = {**args([env], algorithm, "PACS", trial), "protocol": "domainbed"}
        network = {"backbone": "resnet50", "weights": "imagenet", "hparams": {}}
        rows = [{**record(s, [accuracy - s / 1e4] * 4, [0.5] * 4, of), **network} for s in (0, 100)]
        write_run(folder / f"{i}", rows)
    return str(folder)


@pytest.fixture
def printed(capsys):
    """Runs a command, and returns its status and what it printed and said."""

    def run(*words):
        status = cli.main(words)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def lines_of(out):
    return list(csv.DictReader(out.splitlines()))


@pytest.mark.parametrize("ddof", [0, 1])
def test_ddof_is_that_of_the_errors(sweep, printed, ddof):
    status, out, err = printed("collect", "--input_dir", sweep, "--ddof", str(ddof), "--format", "csv")
    assert (status, err) == (0, "")
    (cell,) = (
        one
        for one in lines_of(out)
        if (one["selection"], one["algorithm"], one["environment"]) == ("training-domain", "ERM", "P")
    )
    assert float(cell["error"]) == pytest.approx(100 * np.std(ACCURACIES["ERM"], ddof=ddof) / np.sqrt(3))
    assert (cell["error_kind"], cell["n"]) == ("stderr", "3")


def test_ddof_is_zero_unless_asked_and_two_is_refused(sweep, printed, capsys):
    _, usual, _ = printed("collect", "--input_dir", sweep, "--format", "csv")
    assert usual == printed("collect", "--input_dir", sweep, "--format", "csv", "--ddof", "0")[1]
    with pytest.raises(SystemExit):
        cli.main(["collect", "--input_dir", sweep, "--ddof", "2"])
    assert "--ddof" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "selections"),
    [
        (["collect", "--input_dir"], ["training-domain", "leave-one-domain-out", "last", "mean", "oracle"]),
        (["leaderboard"], ["training-domain"]),
    ],
)
def test_selection_names_the_methods(sweep, printed, words, selections):
    def methods(*more):
        status, out, _ = printed(*words, sweep, "--format", "csv", *more)
        assert status == 0
        return list(dict.fromkeys(line["selection"] for line in lines_of(out)))

    assert methods() == selections
    assert methods("--selection", "last") == ["last"]
    assert methods("--selection", "oracle", "last") == ["oracle", "last"]


def test_an_unknown_selection_is_refused(sweep, capsys):
    with pytest.raises(SystemExit):
        cli.main(["collect", "--input_dir", sweep, "--selection", "best"])
    assert "invalid choice: 'best'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["collect", "--input_dir"], ["leaderboard"]])
def test_command_leads_from_a_cell_to_its_runs(sweep, printed, words):
    status, out, _ = printed(*words, sweep, "--selection", "last", "--command", "PACS/ERM/S")
    assert status == 0
    assert out.startswith("PACS/ERM/S: 63.0000, stderr ")
    assert out.count("python -m dg_batchformer train --algorithm ERM --dataset PACS") == 3
    assert out.count("step 100: accuracy") == 3
    status, out, err = printed(*words, sweep, "--command", "PACS/IRM/S")
    assert (status, out) == (2, "")
    assert err.startswith("error: --command: unknown cell 'PACS/IRM/S': did you mean PACS/")


def test_the_documents_command_of_a_cell_can_be_given(sweep, printed):
    _, out, _ = printed("leaderboard", sweep, "--format", "json")
    (result,) = json.loads(out)["results"]
    cell = result["rows"][0]["cells"]["A"]
    words = shlex.split(cell["command"])
    assert words[0] == "dg-batchformer"
    status, out, _ = printed(*words[1:])
    assert status == 0
    assert all(choice["command"] in out for choice in cell["choices"])
    assert len(cell["choices"]) == 3


def test_references_of_the_paper_and_of_files_are_ranked(sweep, printed, tmp_path):
    rows = tmp_path / "literature.csv"
    rows.write_text(
        "dataset,protocol,backbone,algorithm,environment,mean\n"
        "PACS,domainbed,resnet50,ERM,Avg,70\nPACS,domainbed,resnet18,ERM,Avg,60\n"
    )
    words = ["leaderboard", sweep, "--reference", "paper", str(rows), "--format", "json"]
    status, out, err = printed(*words)
    assert status == 0
    n = sum(row.dataset != "PACS" for row in paper.rows())
    assert f"note: published rows of a dataset or selection method without runs ({n}): " in err
    tables = {
        (one["setting"]["protocol"], one["setting"]["backbone"]): [
            (row["rank"], row["algorithm"], row["source"]) for row in one["rows"]
        ]
        for one in json.loads(out)["results"]
        if len(one["setting"]) == 3
    }
    assert tables["domainbed", "resnet50"] == [
        (1, "ERM_BatchFormer", ""),
        (2, "ERM", "literature.csv"),
        (3, "ERM", ""),
    ]
    assert tables["domainbed", "resnet18"] == [(1, "ERM", "literature.csv")]
    assert (1, "SWAD_BatchFormer", "paper, table 14") in tables["swad", "resnet50"]


def test_a_bad_reference_or_folder_ends_with_what_is_wrong(sweep, printed, tmp_path):
    rows = tmp_path / "bad.csv"
    rows.write_text("dataset,protocol,backbone,algorithm,environment,mean\nPACS,,resnet50,ERM,Avg,seventy\n")
    status, out, err = printed("leaderboard", sweep, "--reference", str(rows))
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        f"error: {rows}:2 has no protocol",
        f"error: {rows}:2 has mean 'seventy': expected a number of percent from 0 to 100",
    ]
    status, _, err = printed("leaderboard", sweep, f"{sweep}/0", str(tmp_path / "none"))
    assert status == 2
    assert err.splitlines() == [
        f"error: {sweep}/0 is the folder of a single run: give the folder that contains it",
        f"error: {tmp_path / 'none'} is not a folder: expected one with the runs of a sweep",
    ]


def test_what_changed_is_said_with_its_interval(sweep, printed):
    """The differences of the three trials, 10, 5 and 18 points, in each of four environments."""
    _, out, _ = printed("leaderboard", sweep, "--format", "json")
    (comparison,) = json.loads(out)["results"][0]["comparisons"]
    assert (comparison["variant"], comparison["base"]) == ("ERM_BatchFormer", "ERM")
    overall = comparison["overall"]
    assert (overall["n"], overall["mean"], overall["wins"]) == (12, pytest.approx(11), 12)
    # Three trials: Student's interval with 2 degrees of freedom.
    half = 4.302652729749462 * stdev([10, 5, 18]) / 3**0.5
    assert comparison["interval"] == pytest.approx([11 - half, 11 + half])
    assert comparison["environments"]["A"]["these"]["interval"] == pytest.approx([11 - half, 11 + half])
    assert (comparison["title"], comparison["words"][:20]) == ("BatchFormer on ERM", "+11.0 points, 95 % -")
    assert ", 3 trials: inconclusive; 80 % power from 21" in comparison["words"]
    assert comparison["new_verdict"] == "too few (4, at least 6)"
    assert comparison["improvement"] == pytest.approx(17 / 18)
    assert comparison["as_selected"] == pytest.approx(11)


def test_reports_do_not_wait_for_torch(sweep):
    """What only reads results starts at once."""
    for words in (["collect", "--input_dir", sweep], ["leaderboard", sweep, "--reference", "paper"]):
        code = (
            f"import sys; from dg_batchformer import cli; cli.main({words!r}); "
            "assert not {'torch', 'submitit'} & sys.modules.keys()"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
