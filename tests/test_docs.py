"""The documentation says what the code does: snippets run, commands parse, tables list what there is."""

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from dg_batchformer import ALGORITHMS, cli, get_algorithm_class, registry, selection
from dg_batchformer.data import BENCHMARKS
from dg_batchformer.hparams import shared_hyperparameters
from dg_batchformer.jobs.launchers import launchers, options
from dg_batchformer.registry import default_hparams
from dg_batchformer.runs import claim, records
from dg_batchformer.runs.folder import State
from dg_batchformer.runs.protocols import PROTOCOLS
from dg_batchformer.selection import formats, leaderboard, report
from dg_batchformer.selection.inference import FEWEST_ENVIRONMENTS, LEVEL, ROPE
from dg_batchformer.selection.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
SELECTION, SWEEPS, WHICH = PAGES["selection.md"], PAGES["sweeps.md"], PAGES["which-number.md"]


def blocks(language):
    """The blocks of code of all pages, with the page's name."""
    found = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(name, block) for name, page in PAGES.items() for block in found.findall(page)]


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch):
    get_algorithm_class("ERM")  # fills it
    monkeypatch.setattr(registry, "_objectives", dict(registry._objectives))


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_snippets_run(page, code, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "snippet"})
    if "WithBatchFormer" in code:
        loss, shape = capsys.readouterr().out.splitlines()
        assert 0 < json.loads(loss.replace("'", '"'))["loss"] < 10
        assert shape == "torch.Size([1, 10])"
    sys.modules.pop("my_algorithms", None)


def test_the_tutorials_algorithm_trains_by_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    lines = [line for _, block in blocks("bash") for line in block.splitlines()]
    command = next(line for line in lines if line.startswith("dg-batchformer train --algorithm my_algorithms:"))
    assert cli.main([*shlex.split(command)[1:], "--steps", "2", "--output_dir", "run"]) == 0
    assert Path("run", "done").exists()
    sys.modules.pop("my_algorithms", None)


def commands():
    lines = "".join(block for _, block in blocks("bash")).replace("\\\n", "").splitlines()
    return list(
        dict.fromkeys(line for line in lines if line.startswith(("dg-batchformer ", "python -m dg_batchformer.")))
    )


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    program, *words = shlex.split(command)
    if program == "dg-batchformer":
        cli.parser().parse_args(words)
    elif words[1].startswith("dg_batchformer.sweeps."):
        cli.parser().parse_args(["sweep", "launch", *words[2:]])
    elif words[1] == "dg_batchformer.within":
        assert words[3] in ("train_all.py", "mdlt.train")
    else:
        assert words[1] == "dg_batchformer.domainbed"
        assert words[2] in ("train", "sweep", "collect")


def test_the_hyperparameters_are_those_of_the_registry(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    listed = importlib.import_module("conf").hyperparameters()
    own = [hp for name in ALGORITHMS for hp in get_algorithm_class(name).hyperparameters]
    for hyperparameter in (*own, *shared_hyperparameters("PACS")):
        assert f"| `{hyperparameter.name}` | `{hyperparameter.default!r}` |" in listed
    assert all(f"`{hp.name}`" in PAGES["hyperparameters.md"] for hp in own if hp.name.startswith("batchformer_"))


def test_every_page_is_in_the_index():
    pages = {name.removesuffix(".md") for name in PAGES} - {"README", "index"}
    assert {line for line in PAGES["index.md"].splitlines() if line in pages} == pages


def table():
    """Cells by row and protocol."""
    first, *_ = PAGES["protocols.md"].split("## DomainBed's commits")
    rows = [line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("| ")]
    header = [cell.strip("` ").split("`")[0] for cell in rows[0]]
    assert header == list(PROTOCOLS)
    return {name.strip("` "): dict(zip(PROTOCOLS, cells, strict=True)) for name, *cells in rows[1:]}


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_its_numbers_are_the_protocols(protocol):
    cells = {name: row[protocol] for name, row in table().items()}
    own = PROTOCOLS[protocol]

    def value(algorithm, name, dataset="PACS"):
        return str({**default_hparams(algorithm, dataset), **own.hparams(algorithm, dataset)}[name])

    assert cells["lr"].startswith(value("ERM", "lr"))
    assert value("CORAL", "lr") in cells["lr"]
    assert cells["weight_decay"] == value("ERM", "weight_decay")
    assert value("CORAL", "batch_size") in cells["Batch"]
    assert value("MixStyle", "batch_size") in cells["Batch"]
    layers, mix = value("MixStyle", "mixstyle_layers"), value("MixStyle", "mixstyle_mix")
    assert ("layer3" in layers) == ("layer3" in cells["mixstyle_layers`, `mixstyle_mix"])
    assert cells["mixstyle_layers`, `mixstyle_mix"].endswith(mix)
    assert cells["irm_lambda`, `vrex_lambda"] == f"{value('IRM', 'irm_lambda')}, {value('VREx', 'vrex_lambda')}"
    assert cells["swad_tolerance_ratio"].startswith(value("SWAD", "swad_tolerance_ratio"))
    assert value("SWAD", "swad_tolerance_ratio", "VLCS") in cells["swad_tolerance_ratio"]
    assert ("frozen" in cells["Batch norm (`freeze_bn`)"]) == (value("ERM", "freeze_bn") == "True")
    steps, checkpoint_freq = own.length(BENCHMARKS["PACS"])
    assert cells["Steps"] == str(steps)
    assert f" {checkpoint_freq}, {2 * checkpoint_freq}, " in cells["Checkpoints"]
    assert (cells["Search"] != "none") == own.searches


def first_cells(title, document=SWEEPS):
    """The first cells of the rows of a table in a document, by the title of its first column."""
    (rows,) = re.findall(rf"^\| {title} \|.*\n\|-.*\n((?:\|.*\n)+)", document, re.MULTILINE)
    return [row.strip("| ").split(" | ")[0].strip("`") for row in rows.splitlines()]


def test_states_and_launchers_are_those_that_there_are():
    assert sorted(first_cells("State")) == sorted(State)
    assert first_cells("`--command_launcher`") == list(launchers())


def test_flags_of_the_launch_are_all_told():
    own = {name for name in options() if f"--{name}" not in SWEEPS}
    assert own == {"keep_going"}  # told by its negation
    assert "--no-keep_going" in SWEEPS


def test_methods_formats_and_problems_are_those_that_there_are():
    assert first_cells("`--selection`", WHICH) == list(METHODS)
    assert sorted(first_cells("`--format`", SELECTION)) == sorted(formats.names())
    assert all(f"`{name}`" in SELECTION for name in (*leaderboard.NEEDED, *leaderboard.OPTIONAL))
    comparisons = PAGES["comparisons.md"]
    assert f"at least {FEWEST_ENVIRONMENTS} environments" in comparisons
    assert f"{100 * (1 - LEVEL):.0f} %" in comparisons
    assert f"`--rope` (default {ROPE} points)" in comparisons


def test_all_kinds_of_problems_are_listed():
    kinds = [
        *(records.TORN, records.FOREIGN, records.OUT_OF_RANGE, records.REPEATED),
        *(selection.STRANGERS, selection.INCOMPLETE, selection.ILL_DESCRIBED, selection.NO_ARGS, selection.UNREADABLE),
        *(selection.UNFINISHED, selection.UNUSABLE, selection.LEFT_OUT, selection.TWICE, selection.NO_RUN),
        *(
            report.NEVER_LEFT_OUT,
            report.BEFORE_PENALTY,
            report.MIXED_VERSIONS,
            leaderboard.WITHOUT_RUNS,
            leaderboard.WITHOUT_COLUMN,
        ),
    ]
    assert sorted(first_cells("Problem", SELECTION)) == sorted(kind.strip("`") for kind in kinds)


def test_seconds_of_claims_are_those_of_the_code():
    assert f"every {claim.BEAT_SECONDS:.0f} seconds" in SWEEPS
    assert f"for {claim.LEASE_SECONDS:.0f} seconds" in SWEEPS
