"""Figures: all that a report says is drawn where it should be, and the files are fit for a paper."""

import itertools
import struct
import sys

import matplotlib
import numpy as np
import pytest
from factories import args, record, run_of, write_run
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from dg_batchformer.errors import InputError
from dg_batchformer.selection import figures
from dg_batchformer.selection.collect import collect
from dg_batchformer.selection.curves import curve
from dg_batchformer.selection.figures import bars, curves, forest, sheet
from dg_batchformer.selection.leaderboard import leaderboard
from dg_batchformer.selection.references import load
from dg_batchformer.selection.report import report
from dg_batchformer.selection.table import AVERAGE

ENVIRONMENTS = ["A", "C", "P", "S"]
ALGORITHMS = ("ERM", "ERM_BatchFormer", "SWAD")
STEPS = (0, 300, 600)


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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return collect([sweep(tmp_path_factory.mktemp("sweep") / "runs")])


@pytest.fixture(scope="module")
def result(runs):
    return report(runs, selections=["training-domain"]).results[0]


@pytest.fixture(autouse=True)
def styled():
    with sheet.style():
        yield


def texts(figure: Figure) -> list[str]:
    """All that is written in a figure."""
    return [text.get_text() for text in figure.findobj(Text)]


def panels(figure: Figure):
    """The axes of a figure by title."""
    return {axes.get_title(): axes for axes in figure.axes}


def marked(axes, **looks):
    """The lines of axes that look so."""
    return [line for line in axes.lines if all(getattr(line, f"get_{name}")() == look for name, look in looks.items())]


def test_each_figure_is_a_png_of_a_columns_width_and_a_pdf_with_truetype(runs, tmp_path):
    paths = figures.draw(report(runs, selections=["training-domain"]), tmp_path / "new")
    stems = [f"training-domain-PACS-{kind}" for kind in ("bars", "forest", "curves-ERM-ERM_BatchFormer", "curves-SWAD")]
    assert [path.name for path in paths] == [f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")]
    for png, pdf in zip(paths[::2], paths[1::2], strict=True):
        image, document = png.read_bytes(), pdf.read_bytes()
        assert image.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", image[16:24])
        assert width == pytest.approx(3.3 * 200, abs=1)
        assert 150 < height < 1200
        assert document.startswith(b"%PDF-")
        assert b"/FontFile2" in document
        assert b"/Type3" not in document
        assert b"CreationDate" not in document


def test_the_same_report_gives_the_same_bytes_whatever_the_users_settings(tmp_path):
    drawn = report(collect([sweep(tmp_path / "runs", ["ERM"], trials=1)]), selections=["training-domain"])
    one = figures.draw(drawn, tmp_path / "one")
    with matplotlib.rc_context({"font.size": 30, "text.usetex": True, "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        other = figures.draw(drawn, tmp_path / "other")
        assert dict(matplotlib.rcParams) == before
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_bars_are_as_long_as_the_means_and_whiskers_as_the_errors(result):
    drawn = panels(bars.figure(result))
    assert list(drawn) == [*ENVIRONMENTS, AVERAGE]
    for column, axes in drawn.items():
        cells = [row.cells[column] for row in result.section.rows]
        assert [patch.get_width() for patch in axes.patches] == pytest.approx([cell.mean for cell in cells])
        whiskers = [line.get_segments()[0] for line in axes.collections]
        ends = [(cell.mean - cell.error, cell.mean + cell.error) for cell in cells]
        assert [tuple(whisker[:, 0]) for whisker in whiskers] == [pytest.approx(end) for end in ends]
        middles = [patch.get_y() + patch.get_height() / 2 for patch in axes.patches]
        assert [whisker[0, 1] for whisker in whiskers] == pytest.approx(middles)
        assert list(axes.get_yticks()) == pytest.approx(middles)
    assert [tick.get_text() for tick in drawn["A"].get_yticklabels()] == list(ALGORITHMS)


def test_the_axis_says_where_it_starts(result):
    drawn = bars.figure(result)
    for axes in drawn.axes:
        start, end = axes.get_xlim()
        assert list(axes.get_xticks())[::2] == [start, end]
        assert start <= min(patch.get_width() for patch in axes.patches) - 10
    assert any(f"the axis starts at {start:.0f}, not at 0" in text.replace("\n", " ") for text in texts(drawn))


def test_a_variant_has_its_bases_hue_and_is_darker(result):
    base, variant, other = panels(bars.figure(result))["A"].patches
    assert base.get_edgecolor() == variant.get_edgecolor() != other.get_edgecolor()
    assert sum(to_rgb(base.get_facecolor())) > sum(to_rgb(variant.get_facecolor())) + 0.5


def test_published_rows_are_hatched_and_what_has_no_number_says_so(runs, tmp_path):
    reference = tmp_path / "rows.csv"
    reference.write_text(
        "dataset,protocol,backbone,algorithm,environment,mean,error,error_kind\n"
        "PACS,domainbed,resnet50,CORAL,A,81.5,1.5,std\n"
    )
    result = leaderboard(runs, load(str(reference))).results[0]
    drawn = bars.figure(result)
    axes = panels(drawn)
    assert [bool(patch.get_hatch()) for patch in axes["A"].patches] == [False, False, False, True]
    assert not any(patch.get_hatch() for patch in axes["C"].patches)
    assert [text.get_text() for text in axes["C"].texts] == ["no number"]
    # Whiskers with caps are standard errors: three rows of ours with two caps each, none on the published one.
    assert [len(container.lines[1]) for container in axes["A"].containers[1::2]] == [2, 2, 2, 0]
    assert "standard deviation, as published" in " ".join(texts(drawn)).replace("\n", " ")


def test_cells_with_runs_missing_have_an_asterisk(tmp_path):
    folder = sweep(tmp_path / "runs", ["ERM"])
    (folder / "0" / "done").unlink()
    drawn = bars.figure(report(collect([folder]), selections=["last"]).results[0])
    assert {name: [text.get_text() for text in axes.texts] for name, axes in panels(drawn).items()} == {
        "A": ["*"],
        "C": [],
        "P": [],
        "S": [],
        AVERAGE: ["*"],
    }


def test_the_forest_has_each_comparisons_numbers(result):
    axes = forest.figure(result).axes[0]
    first, second = result.comparisons
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "BatchFormer",
        first.variant,
        "SWAD",
        second.variant,
    ]
    by_row = zip((first.overall, second.overall), (1, 3), strict=True)
    means, units = marked(axes, marker="D"), marked(axes, marker="o")
    thick, thin = marked(axes, linewidth=2.4), marked(axes, linewidth=0.8, marker="None")
    for i, (overall, y) in enumerate(by_row):
        assert means[i].get_xydata().tolist() == [[overall.mean, y]]
        assert thick[i].get_xydata().tolist() == [[overall.bootstrap[0], y], [overall.bootstrap[1], y]]
        assert thin[i].get_xydata().tolist() == [[overall.t[0], y], [overall.t[1], y]]
        assert list(units[i].get_xdata()) == list(overall.units.values())
        assert len(overall.units) == 12
    assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines)
    beside = [(text.get_text(), text.get_position()[1]) for text in axes.texts]
    for one, y in ((first, 1), (second, 3)):
        assert (f"{one.overall.wins}/{one.overall.ties}/{one.overall.losses}", y) in beside
        assert (f"{one.p_holm:.3f}", y) in beside
    low, high = axes.get_xlim()
    assert all(low < value < high for one in (first, second) for value in one.overall.units.values())


def test_an_interval_beyond_the_axis_ends_in_arrows(tmp_path):
    folder = sweep(tmp_path / "runs", ["ERM", "ERM_BatchFormer"], trials=1)
    result = report(collect([folder]), selections=["training-domain"]).results[0]
    (comparison,) = result.comparisons
    axes = forest.figure(result).axes[0]
    low, high = axes.get_xlim()
    expected = [
        end for end, out in ((low, comparison.overall.t[0] < low), (high, comparison.overall.t[1] > high)) if out
    ]
    arrows = marked(axes, marker="<") + marked(axes, marker=">")
    assert expected
    assert [line.get_xdata()[0] for line in arrows] == pytest.approx(expected)


def test_curves_have_means_chosen_checkpoints_and_windows(result):
    drawn = {labels[-1]: figure for labels, figure in curves.figures(result)}
    assert list(drawn) == ["ERM_BatchFormer", "SWAD"]
    rows = {row.label: row for row in result.section.rows}
    for figure, own in ((drawn["ERM_BatchFormer"], ALGORITHMS[:2]), (drawn["SWAD"], ALGORITHMS[2:])):
        axes = panels(figure)
        assert list(axes) == ENVIRONMENTS
        for name, panel in axes.items():
            chosen, validation = marked(panel, linestyle="None"), marked(panel, linestyle="--")
            test = marked(panel, linewidth=1.1)
            for i, label in enumerate(own):
                choices = rows[label].cells[name].choices
                assert list(chosen[i].get_xdata()) == [choice.step for choice in choices]
                assert list(chosen[i].get_ydata()) == pytest.approx([100 * choice.accuracy for choice in choices])
                of_trials = [curve(choice) for choice in choices]
                assert tuple(test[i].get_xdata()) == tuple(validation[i].get_xdata()) == STEPS
                means = np.mean([one.test for one in of_trials], axis=0)
                assert list(test[i].get_ydata()) == pytest.approx(means.tolist())
                means = np.mean([one.validation for one in of_trials], axis=0)
                assert list(validation[i].get_ydata()) == pytest.approx(means.tolist())


def test_swads_window_is_shaded_for_each_trial(result):
    *_, (labels, figure) = curves.figures(result)
    assert labels == ["SWAD"]
    for axes in figure.axes:
        boxes = [axes.transData.inverted().transform_bbox(patch.get_window_extent()) for patch in axes.patches]
        spans = [bound for box in boxes for bound in (box.x0, box.x1)]
        assert spans == pytest.approx([300, 450, 300, 460, 300, 470])


def test_curves_of_trials_with_other_checkpoints_are_averaged_where_all_have_one():
    class Fake:
        def __init__(self, steps, values):
            self.steps, self.validation, self.test = steps, values, [value + 1 for value in values]

    found = curves.mean([Fake((0, 100, 200), (10, 20, 30)), Fake((0, 200), (20, 50))])
    assert found == ([0, 200], [15, 40], [16, 41])


def test_an_oracle_is_marked_and_has_no_forest(runs):
    for result in report(runs, selections=["training-domain", "oracle"]).results:
        drawn = {kind[0]: figure for kind, figure in figures.figures(result)}
        is_oracle = result.section.selection == "oracle"
        assert ("forest" in drawn) == (not is_oracle)
        assert all((sheet.TEST_DATA in texts(figure)) == is_oracle for figure in drawn.values())


def test_nothing_is_drawn_without_numbers(runs, tmp_path):
    assert figures.draw(report(runs, selections=["leave-one-domain-out"]), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_labels_are_text_whatever_they_are(tmp_path):
    dataset, hparams = "Ä$_{x}$/<b>", '{"lr": 0.1}'
    folder = sweep(tmp_path / "runs", ["ERM", "Größe_$x_1$"], trials=1, dataset=dataset)
    sweep(folder, ["ERM"], trials=1, dataset=dataset, hparams=hparams)
    drawn = report(collect([folder]), selections=["training-domain"])
    figure = bars.figure(drawn.results[0])
    assert all(not text.get_parse_math() for text in figure.findobj(Text))
    for label in ("ERM", "ERM (lr 0.1)", "Größe_$x_1$", f"{dataset}: accuracy"):
        assert label in texts(figure)
    paths = figures.draw(drawn, tmp_path / "figures")
    assert all(path.name.isascii() and not set(path.name) & set('<>:"/\\|?*${} ') for path in paths)
    assert "lr 0.1, ERM" in texts(forest.figure(drawn.results[0]))
    assert len({path.name.lower() for path in paths}) == len(paths) == 2 * (2 + 3)


def test_names_of_files_say_what_sets_the_tables_apart(tmp_path):
    sweep(tmp_path / "runs", ["ERM"], trials=1)
    run_of(tmp_path / "runs", 0, name="short", given={"steps": 100})
    run_of(tmp_path / "runs", 0, name="other", dataset="VLCS")
    drawn = figures.draw(report(collect([tmp_path / "runs"]), selections=["last"]), tmp_path / "figures")
    assert {path.stem for path in drawn if path.stem.endswith("bars")} == {
        "last-PACS-domainbed-resnet50-bars",
        "last-PACS-domainbed-resnet50-steps-100-bars",
        "last-VLCS-domainbed-resnet50-bars",
        "last-Avg-domainbed-resnet50-bars",
    }


def test_names_of_files_are_short_and_distinct(result):
    used = set()
    names = [figures.stem(result, ["curves", label], used) for label in ("a", "A", "a<", "b" * 300, "b" * 301)]
    assert len({name.lower() for name in names}) == len(names)
    assert max(map(len, names)) <= figures.LONGEST


def test_lines_are_broken_at_spaces_then_after_underscores_then_anywhere():
    def lines(text, like):
        return sheet.wrapped(text, 6, sheet.extent(like, 6) + 0.01)

    assert lines("one two three", "one two") == ["one two", "three"]
    assert lines("SWAD_BatchFormer", "BatchFormer") == ["SWAD_", "BatchFormer"]
    assert lines("_Mine", "_Mine") == ["_Mine"]
    assert "".join(lines("W" * 30, "W" * 12)) == "W" * 30
    assert len(lines("W" * 30, "W" * 12)) == 3


def test_without_matplotlib_it_says_what_to_install(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'dg-batchformer\[plots\]'"):
        figures.draw(report(runs, selections=["last"]), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
