"""Learning curves of chosen runs, against the records they were made of."""

import json

import pytest
from factories import args, record, write_run

from dg_batchformer.runs.files import PROGRESS
from dg_batchformer.selection import collect
from dg_batchformer.selection.formats.json import curve
from dg_batchformer.selection.table import build


def choice_of(folder, column="C"):
    """The one choice of a folder's only row for an environment."""
    (section,) = build(collect([folder]), selections=["training-domain"])
    (choice,) = section.rows[0].cells[column].choices
    return choice


def test_the_curve_is_the_checkpoints(tmp_path):
    of = args([1])
    rows = [
        record(0, [0.1, 0.2, 0.3, 0.4], [0.11, 0.91, 0.31, 0.41], of),
        record(300, [0.5, 0.6, 0.7, 0.8], [0.51, 0.92, 0.71, 0.81], of),
        record(600, [0.5, 0.9, 0.7, 0.8], [0.41, 0.93, 0.61, 0.71], of),
    ]
    write_run(tmp_path / "run", rows)
    found = curve(choice_of(tmp_path))
    assert found["steps"] == [0, 300, 600]
    assert found["test"] == [20, 60, 90]
    # The mean over the out-splits of environments 0, 2 and 3.
    assert found["validation"] == pytest.approx([(11 + 31 + 41) / 3, (51 + 71 + 81) / 3, (41 + 61 + 71) / 3], abs=1e-4)
    assert (found["chosen"], found["swad_window"]) == (300, None)


def test_a_run_of_one_model_has_the_curve_of_the_way_there(tmp_path):
    """And not that of another run whose progress lies in its folder."""
    of = args([1], "SWAD")
    final = {**record(600, [0.5] * 4, [0.5] * 4, of), "swad_window": [300, 500]}
    folder = write_run(tmp_path / "run", [final])
    progress = [record(step, [step / 1000] * 4, [0.2] * 4, of) for step in (0, 300, 600)]
    progress.append(record(900, [0.9] * 4, [0.2] * 4, args([2], "SWAD")))
    progress.append(record(450, [0.9] * 3, [0.2] * 3, of))
    (folder / PROGRESS).write_text("".join(json.dumps(one) + "\n" for one in progress) + '{"torn')
    found = curve(choice_of(tmp_path))
    assert found["steps"] == [0, 300, 600]
    assert found["test"] == [0, 30, 60]
    assert found["validation"] == [20, 20, 20]
    assert (found["chosen"], found["swad_window"]) == (600, (300, 500))


@pytest.mark.parametrize("text", [None, "", "torn"])
def test_without_progress_the_curve_is_a_point(tmp_path, text):
    folder = write_run(tmp_path / "run", [record(600, [0.5] * 4, [0.25] * 4, args([1], "SWAD"))])
    if text is not None:
        (folder / PROGRESS).write_text(text)
    found = curve(choice_of(tmp_path))
    assert (found["steps"], found["test"], found["validation"]) == ([600], [50], [25])
