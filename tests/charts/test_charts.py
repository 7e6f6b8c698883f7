"""Charts: all that a report says is drawn where it should be, and the files are fit for a paper."""

import itertools
import re
import struct
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from factories import args, record, run_of, tailed, write_run

from dg_batchformer.charts import LONGEST, TEST_DATA, charts, draw, specs, stem
from dg_batchformer.errors import InputError
from dg_batchformer.selection import collect
from dg_batchformer.selection.formats.json import document
from dg_batchformer.selection.leaderboard import leaderboard, load
from dg_batchformer.selection.report import report

ENVIRONMENTS = ["A", "C", "P", "S"]
ALGORITHMS = ("ERM", "ERM_BatchFormer", "SWAD")
STEPS = [0, 300, 600]


def sweep(folder, algorithms=ALGORITHMS, trials=3, dataset="PACS", hparams="{}"):
    """A sweep of random accuracies; SWAD averaged from step 300 on."""
    random = np.random.default_rng(0)
    for algorithm, env, trial in itertools.product(algorithms, range(4), range(trials)):
        of = {**args([env], algorithm, dataset, trial), "hparams": hparams}
        records = [record(step, random.uniform(0.5, 0.9, 4), random.uniform(0.5, 0.9, 4), of) for step in STEPS]
        if algorithm == "SWAD":
            records[-1]["swad_window"] = [300, 450 + 10 * trial]
        write_run(folder / f"{len(list(folder.iterdir())) if folder.exists() else 0}", records)
    return folder


def document_of(*folders, selections=("training-domain",)):
    return document(report(collect(list(folders)), selections=selections), with_curves=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("sweep") / "runs")


@pytest.fixture(scope="module")
def made(runs):
    return document_of(runs)


@pytest.fixture(scope="module")
def drawn(made):
    """The charts of the one result by kind and labels."""
    return {(chart.kind, *chart.labels): chart for chart in charts(made)[0]}


def texts(path):
    """All that is written in an SVG, line by line."""
    return [text for text in ElementTree.parse(path).getroot().itertext() if text.strip()]


def test_each_chart_is_three_files_of_equal_bytes_at_every_run(made, tmp_path):
    one, other = (draw(made, tmp_path / name) for name in ("one", "other"))
    kinds = ("accuracies", "forest", "curves-ERM-ERM_BatchFormer", "curves-SWAD")
    stems = [f"training-domain-PACS-{kind}" for kind in kinds]
    assert [path.name for path in one] == [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg", "pdf")]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    for png, svg, pdf in zip(*[iter(one)] * 3, strict=True):
        width, height = struct.unpack(">II", png.read_bytes()[16:24])
        assert 2 * 300 < width < 2 * 520  # a column's width, twice as fine
        size = re.search(r'width="(\d+)" height="(\d+)"', svg.read_text()).groups()
        assert (width, height) == tuple(2 * int(side) for side in size)
        document = pdf.read_bytes()
        assert document.startswith(b"%PDF-")
        assert b"/FontFile2" in document  # TrueType, which publishers ask for
        assert b"/Type3" not in document
        assert b"CreationDate" not in document


def test_accuracies_have_the_means_and_errors(made, drawn):
    rows = drawn["accuracies",].rows
    assert list(dict.fromkeys(row["panel"] for row in rows)) == [*ENVIRONMENTS, "Average"]
    shown = {(row["label"], row["panel"]): row for row in rows}
    for row, column in itertools.product(made["results"][0]["rows"], [*ENVIRONMENTS, "Avg"]):
        cell, point = row["cells"][column], shown[row["label"], {"Avg": "Average"}.get(column, column)]
        assert (point["mean"], point["none"], point["star"]) == (cell["mean"], "", "")
        assert point["ends"] == point["caps"] == [cell["mean"] - cell["error"], cell["mean"] + cell["error"]]


def test_a_variant_is_filled_in_its_bases_hue_everywhere(drawn):
    looks = {row["label"]: (row["colour"], row["fill"]) for row in drawn["accuracies",].rows}
    hue, other = looks["ERM"][0], looks["SWAD"][0]
    assert hue != other
    assert looks == {"ERM": (hue, "white"), "ERM_BatchFormer": (hue, hue), "SWAD": (other, "white")}
    filled = {row["label"]: row["filled"] for row in drawn["curves", "ERM", "ERM_BatchFormer"].rows}
    assert filled == {"ERM": False, "ERM_BatchFormer": True}


def test_published_rows_are_apart_and_what_has_no_number_says_so(runs, tmp_path):
    reference = tmp_path / "rows.csv"
    reference.write_text(
        "dataset,protocol,backbone,algorithm,environment,mean,error,error_kind\n"
        "PACS,domainbed,resnet50,CORAL,A,81.5,1.5,std\n"
    )
    made = document(leaderboard(collect([runs]), load(str(reference))), with_curves=True)
    rows = {row["panel"]: row for row in charts(made)[0][0].rows if row["shape"] == "square"}
    # Whiskers with caps are standard errors.
    assert (rows["A"]["mean"], rows["A"]["ends"], rows["A"]["caps"]) == (81.5, [80, 83], None)
    assert [rows[name]["none"] for name in ENVIRONMENTS] == ["", "no number", "no number", "no number"]
    made["results"] = made["results"][:1]
    assert texts(draw(made, tmp_path / "drawn")[1]).count("no number") == 4


def test_cells_with_runs_missing_have_an_asterisk(tmp_path):
    folder = sweep(tmp_path / "runs", ["ERM"])
    (folder / "0" / "done").unlink()
    rows = charts(document_of(folder, selections=["last"]))[0][0].rows
    assert {row["panel"]: row["star"] for row in rows} == {"A": "*", "C": "", "P": "", "S": "", "Average": "*"}


def test_the_forest_has_each_comparisons_numbers(made, drawn):
    means = [row for row in drawn["forest",].rows if "mean" in row]
    assert [(row["modifier"], row["label"]) for row in means] == [("BatchFormer", "ERM_BatchFormer"), ("SWAD", "SWAD")]
    for row, one in zip(means, made["results"][0]["comparisons"], strict=True):
        overall = one["overall"]
        assert [row[name] for name in ("interval", "new_interval")] == [one[n] for n in ("interval", "new_interval")]
        assert row["mean"] == overall["mean"]
        assert row["counts"] == f"{overall['wins']}/{overall['ties']}/{overall['losses']}"
        assert row["p"] == f"{one['p']:.3f}"
        units = [other["difference"] for other in drawn["forest",].rows if "difference" in other]
        assert {unit["difference"] for unit in overall["units"]} <= set(units)
    assert len(units) == 24
    marks = [row for row in drawn["forest",].rows if "of_environment" in row]
    assert len(marks) == 2 * 4
    for environment in {row["environment"] for row in marks}:
        of_variant = [
            row for row in drawn["forest",].rows if row.get("environment") == environment and row["label"] == "SWAD"
        ]
        (mark,) = [row["of_environment"] for row in of_variant if "of_environment" in row]
        assert mark == pytest.approx(np.mean([row["difference"] for row in of_variant if "difference" in row]))


def test_curves_have_the_chosen_checkpoints_and_windows(made, drawn):
    assert [labels for kind, *labels in drawn if kind == "curves"] == [["ERM", "ERM_BatchFormer"], ["SWAD"]]
    shown = [row for chart in drawn.values() if chart.kind == "curves" for row in chart.rows]
    expected = [(row["label"], curve) for row in made["results"][0]["rows"] for curve in row["curves"]]
    assert len(shown) == len(expected) == 3 * 4 * 3
    for row, (label, curve) in zip(shown, expected, strict=True):
        assert row["label"] == label
        assert {name: row[name] for name in curve} == curve
        assert row["swad_window"] == (curve["swad_window"] if label == "SWAD" else None)


def test_means_are_over_steps_that_all_trials_have(drawn):
    import vl_convert

    chart = drawn["curves", "SWAD"]
    common = {**chart.rows[0], "environment": "A"}
    rows = [
        {**common, "trial_seed": 0, "steps": [0, 100, 200], "validation": [10, 20, 30], "test": [11, 21, 31]},
        {**common, "trial_seed": 1, "steps": [0, 200], "validation": [20, 50], "test": [21, 51]},
    ]
    svg = vl_convert.vegalite_to_svg({**chart.spec, "datasets": {"rows": rows}})
    lines = {}
    for path, width in re.findall(r'd="(M[^"]*)"[^>]*stroke-width="(0.4|1.4)"', svg):
        lines.setdefault(width, []).append([float(point.split(",")[1]) for point in re.split("[ML]", path)[1:]])
    (long, short), (test, validation) = lines["0.4"], lines["1.4"]
    assert (len(long), len(short), len(test), len(validation)) == (3, 2, 2, 2)
    assert test == pytest.approx([(long[0] + short[0]) / 2, (long[2] + short[1]) / 2], abs=0.01)


def test_an_oracle_is_marked_and_has_no_forest(runs, tmp_path):
    made = document_of(runs, selections=["training-domain", "oracle"])
    for result, own in zip(made["results"], charts(made), strict=True):
        assert ("forest" in {chart.kind for chart in own}) == (not result["oracle"])
    drawn = [path for path in draw(made, tmp_path) if path.suffix == ".svg"]
    for path in drawn:
        assert (TEST_DATA in texts(path)) == path.name.startswith("oracle")


def test_nothing_is_drawn_without_numbers(runs, tmp_path):
    assert draw(document_of(runs, selections=["leave-one-domain-out"]), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_labels_are_text_whatever_they_are(tmp_path):
    dataset = "Ä$_{x}$/<b>"
    folder = sweep(tmp_path / "runs", ["ERM", "Größe_$x_1$"], trials=1, dataset=dataset)
    sweep(folder, ["ERM"], trials=1, dataset=dataset, hparams='{"lr": 0.1}')
    paths = draw(document_of(folder), tmp_path / "charts")
    found = texts(paths[1])
    for label in ("ERM", "ERM (lr 0.1)", "Größe_$x_1$", f"{dataset}: accuracy"):
        assert label in found
    assert "lr 0.1, ERM" in texts(paths[4])
    assert all(path.name.isascii() and not set(path.name) & set('<>:"/\\|?*${} ') for path in paths)
    assert len({path.name.lower() for path in paths}) == len(paths) == 3 * (2 + 3)


def test_names_of_files_say_what_sets_the_tables_apart(tmp_path):
    sweep(tmp_path / "runs", ["ERM"], trials=1)
    run_of(tmp_path / "runs", 0, name="short", given={"steps": 100})
    run_of(tmp_path / "runs", 0, name="other", dataset="VLCS")
    drawn = draw(document_of(tmp_path / "runs", selections=["last"]), tmp_path / "charts")
    assert {path.stem for path in drawn if path.stem.endswith("accuracies")} == {
        "last-PACS-accuracies",
        "last-PACS-steps-100-accuracies",
        "last-VLCS-accuracies",
        "last-Avg-accuracies",
    }


def test_names_of_files_are_short_and_distinct():
    used = set()
    names = [stem(["last", "PACS", "curves", label], used) for label in ("a", "A", "a<", "b" * 300, "b" * 301)]
    assert len({name.lower() for name in names}) == len(names)
    assert max(map(len, names)) <= LONGEST


def test_long_labels_are_broken_and_rows_have_room_for_them():
    label = specs.label("ERM_BatchFormer (batchformer_shared_classifier false, " + "x" * 50)
    assert re.sub(r"\s", "", label) == "ERM_BatchFormer(batchformer_shared_classifierfalse," + "x" * 50
    assert max(map(len, label.split("\n"))) <= 32
    lines = label.count("\n") + 1
    assert specs.step([{"label": label}, {"label": "ERM"}]) > specs.LINE * lines
    for definition in (specs.accuracies_of(26), specs.forest_of(26), specs.curves_of()):
        assert definition["config"]["axis"]["labelLimit"] == definition["config"]["legend"]["labelLimit"] == 0


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_without_the_extra_it_says_what_to_install(made, tmp_path, monkeypatch, package):
    monkeypatch.delitem(sys.modules, "dg_batchformer.charts.specs")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'dg-batchformer\[plots\]'"):
        draw(made, tmp_path / "charts")
    assert not (tmp_path / "charts").exists()


def test_a_long_tail_has_a_heat_map_of_its_classes(tmp_path):
    for env, trial in itertools.product(range(4), range(2)):
        tailed(tmp_path / "runs", "ERM", env, trial, [0.9, 0.6, 0.1 * env + 0.2 * trial], classes=["dog", "cat", "yak"])
    made = document_of(tmp_path / "runs")
    (chart,) = [chart for chart in charts(made)[0] if chart.kind == "classes"]
    found = {(row["environment"], row["class"]): (row["accuracy"], row["n_images"]) for row in chart.rows}
    assert len(found) == len(chart.rows) == 4 * 3
    assert found["A", "dog"] == (pytest.approx(90), 180)
    assert found["S", "yak"] == (pytest.approx(40), 15)
    draw(made, tmp_path / "drawn")
    written = texts(tmp_path / "drawn" / "training-domain-PACS-classes.svg")
    assert {"dog", "cat", "yak", "90 (180)", "60 (90)", "40 (15)"} <= set(written)
