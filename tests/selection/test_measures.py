"""Columns on request, against numbers worked out by hand, and the confusion matrix of a cell."""

import json

import pytest
from factories import args, record, run_of, write_run

from dg_batchformer import cli
from dg_batchformer.selection import collect, measures
from dg_batchformer.selection.blocks import best
from dg_batchformer.selection.formats import render
from dg_batchformer.selection.report import report


def predicted(folder, algorithm, env, trial, ece, **changed):
    """A run of PACS that saved the predictions of its left-out environment, at two checkpoints."""
    part = f"env{env}_in_"
    own = {f"{part}ece": ece, f"{part}brier": 2 * ece, f"{part}nll": 3 * ece}
    matrix = [[3 + env, 1], [trial, 4]]
    rows = [
        # The first is chosen: its validation accuracy is higher.
        {**record(0, [0.6] * 4, [0.8] * 4, args([env], algorithm, trial=trial)), **own, f"{part}confusion": matrix},
        {
            **record(300, [0.5] * 4, [0.4] * 4, args([env], algorithm, trial=trial)),
            **{name: 2 * value for name, value in own.items()},
            f"{part}confusion": [[0, 4], [5, 0]],
        },
    ]
    return write_run(
        folder / f"{algorithm}-{env}-{trial}", [{**row, "classes": ["cat", "dog"]} | changed for row in rows]
    )


@pytest.fixture
def sweep(tmp_path):
    for trial in (0, 1):
        for env in range(4):
            predicted(tmp_path, "ERM", env, trial, 0.1 + 0.02 * trial + 0.01 * env)
            predicted(tmp_path, "CORAL", env, trial, 0.3)
    return tmp_path


def section(folder, columns=measures.COLUMNS, selection="training-domain"):
    (found,) = report(collect([folder]), selections=[selection], columns=columns).results
    return found.section


def test_columns(sweep):
    found = section(sweep)
    assert found.columns == ("A", "C", "P", "S", "Avg", "Worst", "Macro", "ECE", "Brier", "NLL", "Gap")
    assert found.own_columns == ("A", "C", "P", "S")
    assert found.measures == measures.COLUMNS
    cells = found.rows[0].cells
    # 0.115 on average over environments in trial 0, 0.135 in trial 1; the gap is 0.8 less 0.6.
    assert [cells[name].mean for name in measures.COLUMNS] == pytest.approx([12.5, 25, 37.5, 20])
    assert cells["ECE"].values == pytest.approx({0: 11.5, 1: 13.5})
    assert cells["ECE"].error == pytest.approx(1 / 2**0.5)
    # The lower one is the best, and no accuracy is changed by additional columns.
    assert {label for label, column in best(found) if column == "ECE"} == {"ERM"}
    assert section(sweep, ()).columns == found.columns[:7]
    assert section(sweep, ()).rows[0].cells["Avg"].values == cells["Avg"].values


def test_the_mean_over_checkpoints(sweep):
    """Of two checkpoints the second half is the last: 0.25 on average, and validation 0.4 less 0.5."""
    cells = section(sweep, selection="mean").rows[0].cells
    assert [cells[name].mean for name in ("ECE", "Gap")] == pytest.approx([25, -10])


def test_what_is_not_recorded(sweep):
    for env in range(4):
        run_of(sweep, env, algorithm="IRM")
    irm = section(sweep).rows[-1]
    assert irm.label == "IRM"
    assert [irm.cells[name].missing for name in ("ECE", "Brier", "NLL")] == ["not recorded"] * 3
    assert irm.cells["Gap"].mean == pytest.approx(0)
    assert measures.confusion(irm.cells["A"]) is None


def test_confusion_matrices_of_all_trials(sweep):
    row = section(sweep).rows[0]
    assert measures.confusion(row.cells["C"]) == {"classes": ["cat", "dog"], "counts": [[8, 2], [1, 8]]}
    document = json.loads(render(report(collect([sweep])), "json"))
    own = document["results"][0]["rows"][0]["confusion"]
    assert own["C"]["counts"] == [[8, 2], [1, 8]]
    assert list(own) == ["A", "C", "P", "S"]


def test_matrices_of_different_sizes_are_none(sweep):
    predicted(sweep / "other", "ERM", 0, 0, 0.1)
    predicted(sweep / "other", "ERM", 0, 1, 0.1, env0_in_confusion=[[1]])
    assert measures.confusion(section(sweep / "other").rows[0].cells["A"]) is None


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv", "json", "html"])
def test_every_format_has_them(sweep, tmp_path, form, capsys):
    words = ["collect", "--input_dir", str(sweep), "--columns", "ece", "gap", "ece", "--format", form]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out").read_text()
    if form != "html":
        assert text.count("ECE") >= 1
        assert "12.5" in text or "12.50" in text
    assert cli.main(["leaderboard", str(sweep), "--columns", "ece", "--reference", "paper"]) == 0
    assert "ECE" in capsys.readouterr().out


def test_averages_over_datasets(sweep):
    for trial in (0, 1):
        for env in range(4):
            predicted(sweep / "more", "ERM", env, trial, 0.5, args=args([env], "ERM", "VLCS", trial=trial))
    found = report(collect([sweep, sweep / "more"]), selections=["training-domain"], columns=("ECE",)).results
    assert found[-1].section.columns == ("PACS", "VLCS", "Avg", "Worst", "Macro", "ECE")
    (row,) = [row for row in found[-1].section.rows if row.label == "ERM"]
    assert row.cells["ECE"].mean == pytest.approx((12.5 + 50) / 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ece", 1.5), ("ece", "a"), ("brier", -1), ("nll", None), ("confusion", [[1, -2]]), ("confusion", [0.5])],
)
def test_invalid_values_cost_the_record(tmp_path, name, value):
    predicted(tmp_path, "ERM", 0, 0, 0.1, **{f"env0_in_{name}": value})
    found = collect([tmp_path])
    assert not found.runs
    assert found.problems[0].kind == "accuracy out of range"


def test_an_unknown_column(sweep, capsys):
    with pytest.raises(SystemExit):
        cli.main(["collect", "--input_dir", str(sweep), "--columns", "f1"])
    assert "invalid choice: 'f1'" in capsys.readouterr().err
