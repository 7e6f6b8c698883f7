"""The leaderboard: who is ranked with whom, and why others are not."""

import itertools
import json

import pytest
from factories import run_of

from dg_batchformer.selection import TWICE, collect
from dg_batchformer.selection.blocks import legend
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.leaderboard import WITHOUT_COLUMN, WITHOUT_RUNS, Reference, leaderboard, load
from dg_batchformer.selection.settings import Setting
from dg_batchformer.selection.table import AVERAGE

PACS = Setting("PACS", "domainbed", "resnet50")


NETWORK = {"backbone": "resnet50", "weights": "imagenet", "hparams": {}}


def runs_of(folder, algorithm, accuracies, *, protocol="domainbed", made=(), dataset="PACS", trial=0, **given):
    """A run for each environment, under args that are `given` and with records that say how it was `made`."""
    for env, accuracy in enumerate(accuracies):
        options = {"given": {"protocol": protocol, **given}, **NETWORK, **dict(made)}
        run_of(folder, env, accuracy, algorithm=algorithm, dataset=dataset, trial=trial, **options)


def published(algorithm, mean, *, setting=PACS, source="Someone", selection="training-domain", column=AVERAGE):
    return Reference(setting, algorithm, source, selection, {column: Cell(mean=mean)})


def board(*folders, rows=(), **options):
    return leaderboard(collect(folders), rows, **options)


def ranks(report, i=0):
    return [(row.rank, row.label) for row in report.results[i].section.rows]


def kinds(report):
    return [problem.kind for problem in report.problems]


def test_rows_stand_by_falling_average_and_equal_ones_share_a_rank(tmp_path):
    runs_of(tmp_path, "ERM", [0.70] * 4)
    runs_of(tmp_path, "CORAL", [0.80] * 4)
    runs_of(tmp_path, "IRM", [0.60, 0.80, 0.7001, 0.70])  # 70.0 as printed
    runs_of(tmp_path, "VREx", [0.65] * 4)
    runs_of(tmp_path, "SWAD", [0.99] * 3)  # no average without the fourth environment
    report = board(tmp_path)
    assert report.title == "Leaderboard"
    assert ranks(report) == [(1, "CORAL"), (2, "ERM"), (2, "IRM"), (4, "VREx"), (None, "SWAD")]


def test_published_rows_are_ranked_among_runs(tmp_path):
    runs_of(tmp_path, "ERM", [0.70] * 4)
    runs_of(tmp_path, "CORAL", [0.80] * 4)
    number = {"A": Cell(mean=80, error=0.5, error_kind="std"), "C": Cell(mean=60)}
    all_four = {
        **number,
        "P": Cell(mean=90, error=0, error_kind="std"),
        "S": Cell(mean=75.2, error=1, error_kind="std"),
    }
    rows = [
        published("ERM", 75),
        Reference(PACS, "IRM", "Someone", "training-domain", all_four, "repeat it"),
        Reference(PACS, "VREx", "Someone", "training-domain", number),
    ]
    report = board(tmp_path, rows=rows)
    assert ranks(report) == [
        (1, "CORAL"),
        (2, "IRM (Someone)"),
        (3, "ERM (Someone)"),
        (4, "ERM"),
        (None, "VREx (Someone)"),
    ]
    _, irm, erm, ours, vrex = report.results[0].section.rows
    assert irm.cells[AVERAGE].mean == pytest.approx((80 + 60 + 90 + 75.2) / 4)
    assert [(cell.mean, cell.error, cell.error_kind) for cell in (irm.cells["A"], irm.cells["P"])] == [
        (80, 0.5, "std"),
        (90, 0, "std"),
    ]
    assert (irm.source, irm.command, ours.source) == ("Someone", "repeat it", "")
    assert (erm.cells["A"].mean, erm.cells["A"].missing) == (None, "not published")
    assert (vrex.cells["C"].mean, vrex.cells[AVERAGE].missing) == (60, "not published")
    assert report.problems == []


@pytest.mark.parametrize(
    "setting",
    [
        Setting("PACS", "swad", "resnet50"),
        Setting("PACS", "domainbed", "resnet18"),
        Setting("PACS", "domainbed", "resnet50", (("schedule", "the paper's own"),)),
    ],
)
def test_a_published_row_of_another_setting_stays_apart(tmp_path, setting):
    runs_of(tmp_path, "ERM", [0.70] * 4)
    report = board(tmp_path, rows=[published("ERM", 75, setting=setting)])
    assert sorted(ranks(report, 0) + ranks(report, 1)) == [(1, "ERM"), (1, "ERM (Someone)")]
    (said,) = report.apart
    (difference,) = PACS.differences(setting)
    name, *values = difference.replace(" and ", " ").split(" ", 1)
    assert said.startswith("PACS has tables that cannot be compared: ")
    assert name in said
    assert all(part in said for value in values for part in value.split())


def test_rows_of_other_datasets_or_methods_are_not_dropped_silently(tmp_path):
    runs_of(tmp_path, "ERM", [0.70] * 4)
    rows = [published("ERM", 75, setting=PACS._replace(dataset="VLCS")), published("ERM", 76, selection="oracle")]
    report = board(tmp_path, rows=rows)
    assert [ranks(report, i) for i in range(len(report.results))] == [[(1, "ERM")]]
    assert kinds(report) == [WITHOUT_RUNS, WITHOUT_RUNS]
    assert "ERM on VLCS, training-domain (Someone)" in str(report.problems[0])
    both = board(tmp_path, rows=rows[1:], selections=["training-domain", "oracle"])
    assert ranks(both, 1) == [(1, "ERM (Someone)"), (2, "ERM")]
    assert kinds(both) == []


def test_numbers_of_environments_that_runs_do_not_have_are_not_dropped_silently(tmp_path):
    runs_of(tmp_path, "ERM", [0.70] * 4, dataset="folder:mine", made={"environments": ["a", "b", "c", "d"]})
    setting = Setting("folder:mine", "domainbed", "resnet50")
    report = board(tmp_path, rows=[published("ERM", 75, setting=setting, column="e")])
    assert kinds(report) == [WITHOUT_COLUMN]
    assert ranks(report) == [(1, "ERM"), (None, "ERM (Someone)")]


def test_without_runs_there_are_the_published_rows(tmp_path):
    (tmp_path / "empty").mkdir()
    mine = Setting("folder:mine", "domainbed", "resnet50")
    environments = {name: Cell(mean=50) for name in ("z", "y", "x")}
    rows = [published("ERM", 75), Reference(mine, "ERM", "Someone", "training-domain", environments)]
    report = board(tmp_path / "empty", rows=rows)
    columns = {result.section.dataset: result.section.own_columns for result in report.results}
    assert columns == {"PACS": ("A", "C", "P", "S"), "folder:mine": ("z", "y", "x")}


def test_a_published_base_takes_nothing_from_the_comparison_of_runs(tmp_path):
    """It has the same name and stands above the runs' own."""
    for trial in range(2):
        runs_of(tmp_path, "ERM", [0.70 + trial / 100] * 4, trial=trial)
        runs_of(tmp_path, "ERM_BatchFormer", [0.72, 0.73, 0.74, 0.75], trial=trial)
    alone = board(tmp_path).results[0].comparisons
    with_rows = board(tmp_path, rows=[published("ERM", 99), published("ERM_BatchFormer", 98)]).results[0].comparisons
    assert [(one.variant, one.base, one.overall.n) for one in with_rows] == [("ERM_BatchFormer", "ERM", 8)]
    assert with_rows == alone


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"steps": 100}, "steps default and 100"),
        ({"holdout_fraction": 0.4}, "holdout_fraction default and 0.4"),
        ({"checkpoint_freq": 10}, "checkpoint_freq default and 10"),
        ({"precision": "bf16"}, "precision default and bf16"),
        ({"fixed_hparams": True}, "fixed_hparams default and True"),
        ({"protocol": "tllib", "made": {"hparams": {"freeze_bn": True}}}, "protocol domainbed and tllib"),
        ({"made": {"backbone": "vgg16"}}, "backbone resnet50 and vgg16"),
        ({"made": {"weights": None}}, "backbone resnet50 and resnet50, weights None"),
        ({"made": {"hparams": {"freeze_bn": True}}}, "freeze_bn default and true"),
        ({"made": {"skipped_images": {"A": 3}}}, 'skipped_images default and {"A": 3}'),
    ],
)
def test_runs_of_different_settings_are_never_in_one_table(tmp_path, own, said):
    runs_of(tmp_path / "one", "ERM", [0.70] * 4)
    runs_of(tmp_path / "other", "CORAL", [0.80] * 4, **own)
    report = board(tmp_path / "one", tmp_path / "other")
    assert sorted(ranks(report, 0) + ranks(report, 1)) == [(1, "CORAL"), (1, "ERM")]
    assert len(report.results) == 2
    (line,) = report.apart
    swapped = " and ".join(reversed(said.split(" ", 1)[1].split(" and ")))
    assert line.endswith((f": {said}", f": {said.split(' ', 1)[0]} {swapped}"))


def test_runs_on_different_data_are_never_in_one_table(tmp_path):
    for algorithm, fingerprint in (("ERM", "abc"), ("CORAL", "def")):
        runs_of(tmp_path / algorithm, algorithm, [0.70] * 4, made={"data_fingerprint": fingerprint})
    report = board(tmp_path / "ERM", tmp_path / "CORAL")
    assert len(report.results) == 2
    assert report.apart == ["PACS has tables that cannot be compared: data fingerprint abc and def"]


def test_trials_of_several_folders_stand_in_one_row(tmp_path):
    for trial in range(3):
        runs_of(tmp_path / f"{trial}", "ERM", [0.70 + trial / 100] * 4, trial=trial)
    (result,) = board(*(tmp_path / f"{trial}" for trial in range(3))).results
    assert result.section.rows[0].cells["A"].values == pytest.approx({0: 70, 1: 71, 2: 72})


def test_the_same_run_in_two_folders_counts_once(tmp_path):
    for folder, accuracy in (("one", 0.70), ("copy", 0.70), ("changed", 0.80)):
        runs_of(tmp_path / folder, "ERM", [accuracy])
    for folder, how in (("copy", "with the same results"), ("changed", "with OTHER results")):
        report = board(tmp_path / "one", tmp_path / folder)
        assert report.results[0].section.rows[0].cells["A"].values == pytest.approx({0: 70})
        assert report.n_runs == 1
        (problem,) = (one for one in report.problems if one.kind == TWICE)
        assert how in str(problem)


def test_a_folder_given_twice_is_one(tmp_path):
    runs_of(tmp_path / "one", "ERM", [0.70])
    assert board(tmp_path / "one", tmp_path / "one" / ".." / "one").problems == board(tmp_path / "one").problems


def test_the_papers_rows_join_the_runs_of_their_commands(tmp_path):
    """Runs as the command of a row makes them; the rows of table 6 have a schedule of their own."""
    made = {"backbone": "resnet18", "hparams": {"freeze_bn": True}}
    given = {"protocol": "tllib", "hparams": json.dumps({"backbone": "resnet18"})}
    runs_of(tmp_path, "ERM", [0.70] * 4, made=made, **given)
    report = board(tmp_path, rows=load("paper"))
    with_ours = [one.section for one in report.results if any(not row.source for row in one.section.rows)]
    (section,) = with_ours
    assert {row.source for row in section.rows} == {"", "paper, table 14"}
    assert "MixStyle_BatchFormer (paper, table 14)" in [row.label for row in section.rows]
    mixstyle = next(row for row in section.rows if row.algorithm == "MixStyle_BatchFormer")
    # The paper prints sketch before photo.
    assert [mixstyle.cells[column].mean for column in section.columns[:5]] == [84.8, 75.3, 93.6, 81.1, 83.7]
    assert any("schedule" in line for line in report.apart)
    others = {one.section.setting for one in report.results} - {section.setting}
    assert {setting.dataset for setting in others} == {"PACS"}
    assert set(kinds(report)) == {WITHOUT_RUNS}


def test_each_method_ranks_for_itself_and_averages_over_datasets_come_last(tmp_path):
    for dataset, algorithm in itertools.product(("VLCS", "PACS"), ("ERM", "CORAL")):
        runs_of(tmp_path, algorithm, [0.70 + 0.1 * (algorithm == "CORAL")] * 4, dataset=dataset)
    report = board(tmp_path, selections=["last", "training-domain"])
    shown = [(one.section.selection, one.section.dataset) for one in report.results]
    assert shown == [(method, name) for method in ("last", "training-domain") for name in ("PACS", "VLCS", AVERAGE)]
    assert all(ranks(report, i) == [(1, "CORAL"), (2, "ERM")] for i in range(6))


@pytest.mark.parametrize(("table", "has_deviations"), [("7", False), ("15", True)])
def test_deviations_are_explained_where_there_are_any(tmp_path, table, has_deviations):
    rows = [row for row in load("paper") if row.source == f"paper, table {table}"]
    assert any("standard deviation" in sentence for sentence in legend(board(tmp_path, rows=rows))) == has_deviations
