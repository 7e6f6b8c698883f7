"""Accuracy by shot: cells, comparisons and thresholds, against numbers worked out by hand."""

import json

import pytest
from factories import args, record, tailed, write_run

from dg_batchformer import cli
from dg_batchformer.selection import collect
from dg_batchformer.selection.formats import render
from dg_batchformer.selection.report import report
from dg_batchformer.selection.shots import ClassCell, Thresholds, by_shot


@pytest.fixture
def sweep(tmp_path):
    for trial in (0, 1):
        for env in range(4):
            tailed(tmp_path, "ERM", env, trial, [0.9, 0.6, 0.1 * env])
            tailed(tmp_path, "ERM_BatchFormer", env, trial, [0.8, 0.6, 0.1 * env + 0.2 + 0.1 * trial])
    return tmp_path


def result(folder, thresholds=None):
    (found,) = report(collect([folder]), selections=["training-domain"], **thresholds or {}).results
    return found


def test_mean_of_each_shot_and_the_worst_cell():
    cells = [ClassCell("", n, share) for n, share in ((101, 0.9), (100, 0.7), (21, 0.5), (20, 0.4), (1, 0.0))]
    found = by_shot(cells, Thresholds())
    assert found == pytest.approx({"Many": 0.9, "Medium": 0.6, "Few": 0.2, "Worst cell": 0.0})
    assert by_shot([], Thresholds()) == {}


def test_cells_of_the_table(sweep):
    section = result(sweep).section
    assert section.columns == ("A", "C", "P", "S", "Avg", "Worst", "Macro", "Many", "Medium", "Few", "Worst cell")
    assert section.own_columns == ("A", "C", "P", "S")
    erm, variant = (row.cells for row in section.rows)
    assert [erm[name].mean for name in section.shots] == pytest.approx([90, 60, 15, 0])
    # The few-shot class: 0.35 on average in trial 0, 0.45 in trial 1.
    assert [variant[name].mean for name in section.shots] == pytest.approx([80, 60, 40, 25])
    assert variant["Few"].values == pytest.approx({0: 35, 1: 45})
    assert variant["Few"].error == pytest.approx(5 / 2**0.5)
    assert (variant["Few"].done, variant["Few"].expected) == (8, 8)


def test_differences_by_shot(sweep):
    (comparison,) = result(sweep).comparisons
    means = {name: own.mean for name, own in comparison.shots.items()}
    assert means == pytest.approx({"Many": -10, "Medium": 0, "Few": 25, "Worst cell": 25})
    assert comparison.shots["Few"].n == 8
    # 20 in one trial, 30 in the other: Student's interval with one degree of freedom.
    assert ", few-shot +25.0 (95 % -38.5 to +88.5), 2 trials: " in comparison.words


def test_every_format_has_them(sweep):
    found = report(collect([sweep]), selections=["training-domain"])
    for form in ("text", "markdown", "latex", "csv"):
        assert all(name in render(found, form) for name in ("Many", "Medium", "Few", "Worst cell"))
    lines = [line.split(",") for line in render(found, "differences").splitlines()]
    n = lines[0].index("n")
    assert [line[n] for line in lines if "Few" in line] == ["8"]
    (one,) = json.loads(render(found, "json"))["results"]
    assert one["comparisons"][0]["shots"]["Few"]["mean"] == pytest.approx(25)
    assert one["rows"][0]["cells"]["Few"]["mean"] == pytest.approx(15)
    assert len(one["rows"][1]["classes"]) == 4 * 3
    last = {"environment": "S", "class": "2", "n_images": 15, "accuracy": pytest.approx(55)}
    assert one["rows"][1]["classes"][-1] == last


def test_thresholds_can_be_given(sweep, capsys):
    section = result(sweep, {"thresholds": Thresholds(200, 100)}).section
    assert section.shots == ("Medium", "Few", "Worst cell")
    assert section.rows[0].cells["Medium"].mean == pytest.approx(90)
    assert cli.main(["collect", "--input_dir", str(sweep), "--shots", "200", "100"]) == 0
    assert "Many" not in capsys.readouterr().out
    assert cli.main(["collect", "--input_dir", str(sweep), "--shots", "20", "100"]) == 2
    assert "--shots is 20 100: expected MANY FEW with 0 <= FEW <= MANY" in capsys.readouterr().err


def test_runs_without_them_have_no_such_columns_and_a_part_of_them_is_not_recorded(tmp_path):
    for env in range(4):
        write_run(tmp_path / "plain" / str(env), [record(300, [0.5] * 4, [0.5] * 4, args([env]))])
        run = tailed(tmp_path / "tail", "ERM", env, 0, [0.9, 0.6, 0.3])
        if env == 0:
            row = json.loads((run / "results.jsonl").read_text())
            kept = {name: value for name, value in row.items() if not name.endswith("_by_class")}
            (run / "results.jsonl").write_text(json.dumps(kept) + "\n")
    assert result(tmp_path / "plain").section.shots == ()
    few = result(tmp_path / "tail").section.rows[0].cells["Few"]
    assert (few.mean, few.missing) == (None, "not recorded")


@pytest.mark.parametrize("value", [[0.5, 1.5, None], [0.5, "a", None], 0.5, {"a": 1}])
def test_an_accuracy_by_class_out_of_range_costs_the_record(tmp_path, value):
    tailed(tmp_path, "ERM", 0, 0, [0.9, 0.6, 0.3], env0_in_by_class=value)
    found = collect([tmp_path])
    assert not found.runs
    assert [one.kind for one in found.problems][:2] == ["accuracy out of range", "finished runs without a valid record"]


def test_one_line_at_a_time_reads_the_same(sweep):
    """A torn line makes the reader decode each record by itself."""
    before = result(sweep).section.rows[1].cells["Few"].values
    with (sweep / "ERM_BatchFormer-0-0" / "results.jsonl").open("a") as file:
        file.write('{"step": 3')
    assert result(sweep).section.rows[1].cells["Few"].values == before


def test_the_mean_over_checkpoints_averages_the_classes_too(tmp_path):
    for env in range(4):
        run = tailed(tmp_path, "ERM", env, 0, [0.9, 0.6, 0.3])
        row = json.loads((run / "results.jsonl").read_text())
        later = {**row, "step": 600, f"env{env}_in_by_class": [0.7, 0.6, 0.5]}
        (run / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in ({**row, "step": 0}, row, later)))
    (found,) = report(collect([tmp_path]), selections=["mean"]).results
    cells = found.section.rows[0].cells
    # Of three checkpoints the last two.
    assert [cells[name].mean for name in ("Many", "Medium", "Few", "Worst cell")] == pytest.approx([80, 60, 40, 40])
