"""Runs that leave several environments out together: a column for each set, by hand."""

import pytest
from factories import args, record, run_of, tables, texts, write_run

from dg_batchformer.selection import collect
from dg_batchformer.selection.formats import render
from dg_batchformer.selection.methods import LEAVE_ONE_DOMAIN_OUT
from dg_batchformer.selection.report import report

OTHERS = {0: [1, 2, 3], 1: [0, 2, 3], 2: [0, 1, 3], 3: [0, 1, 2]}


def single_source(folder, algorithm, source, trial, ins, outs):
    """A run on PACS of two checkpoints that trains on one environment."""
    of = args(OTHERS[source], algorithm, trial=trial)
    rows = [record(step, *of_step, of) for step, of_step in zip((0, 100), zip(ins, outs, strict=True), strict=True)]
    return write_run(folder / f"{algorithm}-{source}-{trial}", rows)


@pytest.fixture
def sweep(tmp_path):
    for trial in (0, 1):
        for source in range(4):
            for algorithm, better in (("ERM", 0.0), ("ERM_BatchFormer", 0.1 + 0.01 * trial)):
                first, second = [0.1] * 4, [0.2 + 0.1 * i + better for i in range(4)]
                # Only the source's out-split selects: those of the left-out ones would choose the first.
                outs = [[0.9] * 4, [0.8] * 4]
                outs[0][source], outs[1][source] = 0.5, 0.6
                single_source(tmp_path, algorithm, source, trial, (first, second), outs)
    return tmp_path


def test_a_column_is_the_mean_over_its_set(sweep):
    (section,) = tables(sweep)
    erm, variant = (row.cells for row in section.rows)
    assert section.own_columns == ("A+C+P", "A+C+S", "A+P+S", "C+P+S")
    # 20, 30, 40 and 50 percent of A, C, P and S.
    assert [erm[name].mean for name in section.own_columns] == pytest.approx([30, 100 / 3, 110 / 3, 40])
    assert erm["Avg"].mean == pytest.approx(35)
    assert variant["A+C+P"].values == pytest.approx({0: 40, 1: 41})
    assert (erm["Avg"].done, erm["Avg"].expected, erm["Avg"].missing) == (8, 8, "")
    assert section.setting.words.endswith("test_envs 3 at once")
    assert tables(sweep, LEAVE_ONE_DOMAIN_OUT) == []
    (oracle,) = tables(sweep, "oracle")
    assert oracle.rows[0].cells["C+P+S"].mean == pytest.approx(40)


def test_sets_share_environments_so_nothing_is_said_about_new_ones(sweep):
    made = report(collect([sweep]), selections=["training-domain"])
    (comparison,) = made.results[0].comparisons
    assert comparison.overall.mean == pytest.approx(10.5)
    assert comparison.overall.these is not None
    assert comparison.new_verdict == "not tested, left-out sets share environments"
    assert comparison.new_interval is None
    assert "In a column such as A+C these environments were left out together" in render(made, "markdown")
    for format in ("csv", "differences", "json", "latex", "markdown"):
        assert "A+C+P" in render(made, format)


def test_pairs_alone_are_columns_and_beside_single_ones_serve_cross_validation(tmp_path):
    for pair in ([0, 1], [2, 3]):
        run_of(tmp_path, pair, 0.25)
    (section,) = tables(tmp_path)
    assert section.own_columns == ("A+C", "P+S")
    assert section.rows[0].cells["P+S"].mean == pytest.approx(25)
    run_of(tmp_path, 2, 0.75)
    (section,) = tables(tmp_path)
    assert section.own_columns == ("A", "C", "P", "S")
    assert section.rows[0].cells["P"].mean == pytest.approx(75)


def test_given_training_environments_are_part_of_the_setting(tmp_path):
    run_of(tmp_path, 2, 0.25, given={"train_envs": [0]})
    run_of(tmp_path, 2, 0.75)
    one, other = tables(tmp_path)
    assert {one.setting.others, other.setting.others} == {(), (("train_envs", "[0]"),)}
    assert {row.cells["P"].mean for section in (one, other) for row in section.rows} == {25, 75}


def test_validation_is_that_of_the_given_training_environments(tmp_path):
    of = {**args([2]), "train_envs": [0]}
    rows = [record(0, [0.1] * 4, [0.9, 0.1, 0.1, 0.1], of), record(100, [0.7] * 4, [0.8, 1, 1, 1], of)]
    write_run(tmp_path / "a", rows)
    (section,) = tables(tmp_path)
    assert section.rows[0].cells["P"].mean == pytest.approx(10)


def test_all_environments_left_out_is_a_problem(tmp_path):
    run_of(tmp_path, [0, 1, 2, 3])
    assert "leaves out [0, 1, 2, 3] of 4 environments" in texts(collect([tmp_path]).problems)[0]
