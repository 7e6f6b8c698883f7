"""The formats say what the report says, each in its own way."""

import csv
import dataclasses
import io
import itertools
import json
import re
import shutil
import subprocess

import pytest
from factories import args, record, run_of, table, write_run
from page.documents import embedded

from dg_batchformer import cli
from dg_batchformer.selection import collect
from dg_batchformer.selection.blocks import ORACLE_FENCE, best, cell_text
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.formats import names, render, text
from dg_batchformer.selection.report import report

NASTY = 'mine:A&B_100%$#{x}~^\\<i>"|*`ü'


@pytest.fixture
def folder(tmp_path):
    """Three algorithms in two trials: ERM_BatchFormer some 2 points above ERM, the third without one of sketch."""
    for name, env, trial in itertools.product(("ERM", "ERM_BatchFormer", NASTY), range(4), range(2)):
        accuracy = 0.5 + 0.1 * env + 0.02 * trial + (0.02 + 0.004 * env) * (name == "ERM_BatchFormer")
        of = {**args([env], name, trial=trial), "hparams": None}
        accuracies = [accuracy if i == env else 0.9 for i in range(4)]
        row = {**record(0, accuracies, [0.5] * 4, of), "hparams": {"lr": 0.1}}
        done = (name, env, trial) != (NASTY, 3, 1)
        write_run(tmp_path / f"{len(name)}-{env}-{trial}", [row], done=done)
    return tmp_path


@pytest.fixture
def made(folder):
    return report(collect([folder]))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Cell({0: 80, 1: 82}, 81.0, 0.7071), "81.0 ± 0.7"),
        (Cell({0: 80.04}, 80.04), "80.0"),
        (Cell({0: 80, 1: 82}, 81.0, 0.7071, "2 of 3 trials"), "81.0 ± 0.7 (2 of 3 trials)"),
        (Cell(missing="0 of 3 trials"), "(0 of 3 trials)"),
        (Cell(), "(no run)"),
    ],
)
def test_cell(cell, expected):
    assert cell_text(cell) == expected


def section_of(tmp_path, accuracies):
    """A table of algorithms with these accuracies in percent by trial, in all environments."""
    for algorithm, by_trial in accuracies.items():
        for trial, env in itertools.product(range(len(by_trial)), range(4)):
            run_of(tmp_path, env, by_trial[trial] / 100, algorithm=algorithm, trial=trial)
    return table(tmp_path)


def test_the_best_are_those_that_cannot_be_told_from_the_best(tmp_path):
    accuracies = {"ERM": [80, 82, 84], "CORAL": [79, 83, 83], "IRM": [70, 73, 73], "VREx": [79, 81, 83]}
    # CORAL differs from ERM by 1, -1 and 1, IRM by 10, 9 and 11; VREx always by 1, which proves nothing.
    found = best(section_of(tmp_path, accuracies))
    assert {label for label, column in found if column == "A"} == {"ERM", "CORAL", "VREx"}


def test_with_one_trial_the_printed_number_decides(tmp_path):
    found = best(section_of(tmp_path, {"ERM": [80.02], "CORAL": [80.01], "IRM": [79.9]}))
    assert {label for label, column in found if column == "Avg"} == {"ERM", "CORAL"}


def test_a_single_row_is_not_the_best(tmp_path):
    assert best(section_of(tmp_path, {"ERM": [80, 81]})) == set()


def test_text(made):
    lines = text.render(made, verbose=True).splitlines()
    assert lines[0] == "PACS, model selection: training-domain validation"
    assert " ".join(lines[1:3]).startswith(
        "protocol domainbed, backbone resnet50; 1 to 2 trials; hyper-parameters fixed"
    )
    assert "23 of 24 runs done" in " ".join(lines[1:4])
    rows = {line.split("  ")[1]: line.split("  ", 2)[2].strip() for line in lines if line.startswith("  ERM")}
    assert re.split(r"\s{2,}", rows["ERM"])[:5] == [f"{mean}.0 ± 0.7" for mean in (51, 61, 71, 81)] + ["66.0 ± 0.7"]
    assert re.split(r"\s{2,}", rows["ERM_BatchFormer - ERM"]) == [
        *("+2.0", "+2.4", "+2.8", "+3.2", "+2.6"),
        *("too few (4)", "97 %", "+2.6"),
    ]
    # Both trials have the same differences: their equality proves nothing.
    expected = "BatchFormer on ERM: +2.6 points, 2 trials: inconclusive (all differences are equal, so no test)"
    assert expected in " ".join(lines)
    assert "  no number: needs pair runs (--pairs)" in lines
    fence = next(i for i, line in enumerate(lines) if ORACLE_FENCE in line)
    assert [i for i, line in enumerate(lines) if "ORACLE" in line] == [fence + 2]
    # Nothing is concluded from an oracle.
    assert not any(" - ERM" in line for line in lines[fence:])
    # Only what cannot be broken is longer than a line of a narrow terminal.
    assert all(len(line) <= 100 for line in lines if not re.search(r"\s{3}|─", line))


def test_text_ends_with_the_table_to_report_and_its_verdict(made):
    lines = render(made, "text").splitlines()
    titles = [line for line in lines if "model selection: " in line]
    assert titles == ["PACS, model selection: training-domain validation"]
    rows = [line.split()[0] for line in lines if line.startswith("  ERM")]
    assert rows[:2] == ["ERM", "ERM_BatchFormer"]
    assert not [line for line in lines if "Variant - base" in line or "Mean ±" in line]
    (verdict,) = (i for i, line in enumerate(lines) if line.startswith("BatchFormer on ERM: +2.6 points, 2 trials: "))
    end = lines.index("", verdict)
    assert lines[end - 1].endswith("environments: too few (4, at least 6)")
    assert lines[end:] == ["", *made.apart, text.MORE]


def test_without_training_domain_validation_text_shows_what_there_is(made):
    last = [one for one in made.results if one.section.selection == "last"]
    assert "model selection: last checkpoint" in text.render(dataclasses.replace(made, results=last))


def test_text_has_styles_in_a_terminal_alone(made):
    assert "\x1b[" not in text.render(made)
    assert "\x1b[1m53.0 ± 0.7\x1b[0m" in text.render(made, color=True)


def test_markdown(made):
    printed = render(made, "markdown")
    lines = printed.splitlines()
    assert lines[0] == "### PACS, model selection: training-domain validation"
    start = lines.index("| Algorithm | A | C | P | S | Avg | Worst | Macro |")
    assert lines[start + 1] == "|---|---:|---:|---:|---:|---:|---:|---:|"
    assert lines[start + 3].startswith("| ERM_BatchFormer | **53.0 ± 0.7** | **63.4 ± 0.7** |")
    # In no row does a label make cells of its own.
    for row in lines[start : start + 5]:
        assert len(re.split(r"(?<!\\)\|", row)) == 10
    assert "\\<i\\>" in lines[start + 4]
    assert f"> {ORACLE_FENCE}" in lines


def test_latex_marks_the_best(made):
    lines = render(made, "latex").splitlines()
    row = next(line for line in lines if line.startswith(r"ERM\_BatchFormer & "))
    assert row.startswith(r"ERM\_BatchFormer & \textbf{53.0 $\pm$ 0.7} & \textbf{63.4 $\pm$ 0.7} &")
    captions = [line for line in lines if line.startswith(r"\caption")]
    assert len(captions) == 7
    assert all("hyper-parameters fixed over trials" in caption for caption in captions)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(made, tmp_path):
    (tmp_path / "body.tex").write_text(render(made, "latex"), encoding="utf-8")
    packages = re.findall(r"\\usepackage\{\w+\}", render(made, "latex").splitlines()[0])
    assert len(packages) == 2
    main = ["\\documentclass{article}", *packages, "\\begin{document}", "\\input{body}", "\\end{document}"]
    (tmp_path / "main.tex").write_text("\n".join(main))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "main.pdf").read_bytes().startswith(b"%PDF")
    assert "Overfull" not in done.stdout


def test_csv_and_json_hold_the_same_cells(made):
    rows = list(csv.DictReader(io.StringIO(render(made, "csv"))))
    document = json.loads(render(made, "json"))
    cells = {
        (result["selection"], row["algorithm"], column): cell
        for result in document["results"]
        for row in result["rows"]
        for column, cell in row["cells"].items()
    }
    assert len(rows) == len(cells) == 5 * 3 * 7
    for row in rows:
        cell = cells[row["selection"], row["algorithm"], row["environment"]]
        assert [row[name] for name in ("mean", "error", "n", "done", "expected", "missing")] == [
            "" if cell[name] is None else str(cell[name])
            for name in ("mean", "error", "n", "done", "expected", "missing")
        ]
    sketch = cells["training-domain", NASTY, "S"]
    assert (sketch["n"], sketch["done"], sketch["expected"], sketch["missing"]) == (1, 1, 2, "1 of 2 trials")
    assert sketch["choices"][0]["folder"].endswith(f"/{len(NASTY)}-3-0")
    assert sketch["choices"][0]["environment"] == "S"


def test_differences_are_those_of_the_document(made):
    rows = list(csv.DictReader(io.StringIO(render(made, "differences"))))
    found = {}
    for row in rows:
        found[row["selection"], row["change"], row["variant"], row["base"], row["environment"]] = row
    assert len(found) == len(rows)
    wanted = {}
    for result in json.loads(render(made, "json"))["results"]:
        for one in result["comparisons"]:
            name = result["selection"], one["change"], one["variant"], one["base"]
            family = {"verdict": one["verdict"], "p_corrected": one["p"], "chosen": one["as_selected"]}
            wanted[(*name, "")] = {**one["overall"], **family}
            wanted |= {
                (*name, environment): {**own, **dict.fromkeys(family)}
                for environment, own in one["environments"].items()
            }
    assert found.keys() == wanted.keys()
    assert len(found) % 5 == 0
    assert found
    for key, difference in wanted.items():
        for name in ("mean", "n", "n_trials", "wins", "ties", "losses", "verdict", "p_corrected", "chosen"):
            assert found[key][name] == ("" if difference[name] is None else str(difference[name]))
        for name, prefix in (("these", ""), ("new", "new_")):
            limits = [found[key][prefix + end] for end in ("low", "high")]
            own = difference[name]
            assert limits == ([str(limit) for limit in own["interval"]] if own else ["", ""])


def test_json_says_what_was_passed_over(made):
    (problem,) = json.loads(render(made, "json"))["problems"]
    assert (problem["kind"], problem["n"]) == ("unfinished runs", 1)
    assert NASTY in problem["texts"][0]


def test_html_is_the_document_in_a_page(made):
    document = embedded(render(made, "html"))["document"]
    assert document["results"][0]["rows"][2]["label"] == NASTY
    assert document["results"][0]["rows"][0]["curves"][0]["test"] == [50.0]


def test_flags_offer_the_formats():
    given = cli.parser().parse_args(["collect", "--input_dir", "x", "--format", "html"])
    assert given.format == "html"
    for name in names():
        cli.parser().parse_args(["leaderboard", "x", "--format", name])
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["collect", "--input_dir", "x", "--format", "word"])
