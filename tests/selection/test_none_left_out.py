"""Runs that leave no environment out: their table, against numbers worked out by hand."""

import json

import pytest
from factories import args, record, tables, write_run

from dg_batchformer.selection import collect
from dg_batchformer.selection.formats import render
from dg_batchformer.selection.report import report

COUNTS = {"A": [300, 30, 10], "C": [10, 30, 300], "P": [0, 90, 90], "S": [101, 100, 20]}


def run_on_all(folder, algorithm, trial, best, *, few=0.5):
    """A run on PACS of two checkpoints: `best` is tested at the one with the higher mean on the validation splits."""
    of = {**args([], algorithm, trial=trial, dataset="mdlt:PACS")}
    rows = []
    for step, tests, outs in ((0, [0.1] * 4, [0.6, 0.4, 0.4, 0.4]), (100, best, [0.4, 0.5, 0.6, 0.4])):
        one = {name.replace("_in_", "_test_"): value for name, value in record(step, tests, outs, of).items()}
        by_class = [[0.9, 0.7, few], [few, 0.7, 0.9], [0.2, 0.7, 0.7], [0.9, 0.7, few]]
        one |= {f"env{i}_test_by_class": own for i, own in enumerate(by_class)}
        rows.append({**one, "classes": ["dog", "cat", "cow"], "class_counts": COUNTS})
    return write_run(folder / f"{algorithm}-{trial}", rows)


@pytest.fixture
def sweep(tmp_path):
    for trial in (0, 1):
        run_on_all(tmp_path, "ERM", trial, [0.8, 0.6, 0.7, 0.5 + 0.1 * trial])
        run_on_all(tmp_path, "ERM_BatchFormer", trial, [0.9, 0.6, 0.7, 0.5], few=0.6)
    return tmp_path


def test_each_run_stands_in_all_columns(sweep):
    (section,) = tables(sweep)
    erm, variant = (row.cells for row in section.rows)
    assert section.setting.words.endswith("test_envs none")
    assert [erm[name].mean for name in ("A", "C", "P", "S", "Avg", "Worst")] == pytest.approx(
        [80, 60, 70, 55, 66.25, 55]
    )
    assert erm["S"].values == pytest.approx({0: 50, 1: 60})
    assert (erm["A"].done, erm["A"].expected) == (2, 2)
    assert (variant["Avg"].done, variant["Avg"].expected) == (2, 2)


def test_shots_are_of_each_environments_own_images(sweep):
    (section,) = tables(sweep)
    assert section.shots == ("Many", "Medium", "Few", "Zero", "Worst cell")
    erm, variant = (row.cells for row in section.rows)
    medium = (0.7 * 5 + 0.7) / 6
    assert [erm[name].mean for name in section.shots] == pytest.approx([90, 100 * medium, 50, 20, 20])
    assert variant["Few"].mean == pytest.approx(60)


def test_methods_that_need_a_left_out_environment_have_no_table(sweep):
    found = report(collect([sweep]))
    assert [one.section.selection for one in found.results] == ["training-domain", "last", "mean"]
    for form in ("text", "markdown", "latex", "csv", "differences"):
        assert "Zero" in render(found, form)
    text = render(found, "markdown")
    assert "With test_envs none, numbers are accuracies in percent on the test splits" in text
    assert "left-out environment. Out-splits" not in text
    document = json.loads(render(found, "json"))
    assert document["results"][0]["rows"][0]["classes"][0] == {
        "environment": "A",
        "class": "dog",
        "n_images": 300.0,
        "accuracy": pytest.approx(90),
    }


def test_differences_are_by_environment_and_trial(sweep):
    (comparison,) = report(collect([sweep]), selections=["training-domain"]).results[0].comparisons
    assert comparison.overall.n == 8
    assert comparison.overall.mean == pytest.approx((10 * 2 - 10) / 8)
    assert comparison.shots["Few"].mean == pytest.approx(10)


def test_a_missing_trial_is_named(sweep):
    (sweep / "ERM-1" / "done").unlink()
    (section,) = tables(sweep)
    cell = section.rows[0].cells["C"]
    assert (cell.missing, cell.done, cell.expected) == ("1 of 2 trials", 1, 2)
    assert section.rows[0].cells["Avg"].missing == "1 of 2 trials"


def test_runs_that_leave_one_out_are_in_another_table(sweep):
    for env in range(4):
        write_run(sweep / f"left-{env}", [record(100, [0.5] * 4, [0.5] * 4, args([env], dataset="mdlt:PACS"))])
    found = report(collect([sweep]), selections=["training-domain"])
    assert len(found.results) == 2
    assert found.apart == ["mdlt:PACS has tables that cannot be compared: test_envs default and none"]
