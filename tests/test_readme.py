"""What the README says is true: its code runs, its commands parse, its names and defaults exist."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from dg_batchformer import ALGORITHMS, cli, flags, get_algorithm_class, registry
from dg_batchformer.hparams import shared_hyperparameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch):
    get_algorithm_class("ERM")  # fills it
    monkeypatch.setattr(registry, "_objectives", dict(registry._objectives))


@pytest.fixture
def saved_example(tmp_path, monkeypatch):
    """The first block, saved as the README says, and a working folder of its own."""
    (tmp_path / "my_algorithms.py").write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_algorithms", None)


@pytest.mark.parametrize("code", blocks("python"))
def test_code_runs(code, saved_example, capsys):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_the_own_algorithm_does_what_it_says(saved_example, capsys):
    namespace = {"__name__": "readme"}
    exec(blocks("python")[1], namespace)
    loss, shape = capsys.readouterr().out.splitlines()
    assert 0 < json.loads(loss.replace("'", '"'))["loss"] < 10
    assert shape == "torch.Size([1, 10])"
    assert namespace["WithBatchFormer"] is get_algorithm_class("my_algorithms:WorstEnvironment_BatchFormer")


def test_the_saved_example_trains_by_name(saved_example, capsys):
    (command,) = [line for line in "\n".join(blocks("bash")).splitlines() if "my_algorithms:" in line]
    assert cli.main([*shlex.split(command)[1:], "--steps", "2", "--output_dir", "run"]) == 0
    assert Path("run", "done").exists()


def commands():
    lines = "\n".join(blocks("bash")).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("dg-batchformer ")]


@pytest.mark.parametrize("argv", commands(), ids=" ".join)
def test_commands_parse(argv):
    flags.parser().parse_args(argv)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:\$ |`)make (\w+)", README))
    assert targets == {"demo", "test", "fidelity", "results"}
    assert all(f"\n{target}:" in makefile for target in targets)


def test_hyperparameters_are_listed_with_their_defaults():
    rows = re.findall(r"^\| (\w+) \|(.*)\|$", README, re.MULTILINE)
    listed = {
        name: {key: json.loads(value) for key, value in re.findall(r"`(\w+)` \((\[.*?\]|[^)]*)\)", cell)}
        for name, cell in rows
        if name in registry._objectives or name in registry.MODIFIER_ORDER
    }
    standard = [registry.split_name(name) for name in ALGORITHMS]
    assert listed.keys() == {part for objective, modifiers in standard for part in (objective, *modifiers)}
    for name, expected in listed.items():
        assert {hp.name: hp.default for hp in get_algorithm_class(name).hyperparameters} == expected
    for hyperparameter in shared_hyperparameters("PACS"):
        assert f"`{hyperparameter.name}`" in README


def test_the_layout_exists():
    (layout,) = [block for block in blocks("text") if "the library" in block]
    folder = ROOT
    for line in layout.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else ROOT / name.rstrip("/")
        assert (folder / name if line.startswith(" ") else folder).exists(), name


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r"`([A-Z]+\.md)`", README):
        assert (ROOT / target).exists(), target


def test_the_demos_table_is_whole_and_adds_up():
    (demo,) = [block for block in blocks("text") if "model selection: training-domain" in block]
    table, changes = demo.split("Algorithm ")[1].split("Variant - base")
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines() if "." in line}
    averages = {}
    for name in ALGORITHMS:
        *columns, averages[name], worst, macro = map(float, rows[name])
        assert len(columns) == 4
        assert averages[name] == pytest.approx(sum(columns) / 4, abs=0.1)
        assert worst == min(columns)
        assert macro == pytest.approx(averages[name], abs=1)
    compared = re.findall(r"^  (\w+) - (\w+) .* ([-+][\d.]+)   too few", changes, re.MULTILINE)
    assert len(compared) == 10
    for variant, base, mean in compared:
        assert float(mean) == pytest.approx(averages[variant] - averages[base], abs=0.11)
