"""The documents say what the code does: protocols, sweeps and the selection table."""

import re
import shlex
from pathlib import Path

import pytest

from dg_batchformer import flags
from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.jobs.launchers import launchers, options
from dg_batchformer.registry import default_hparams
from dg_batchformer.runs import claim, records
from dg_batchformer.runs.folder import State
from dg_batchformer.runs.protocols import PROTOCOLS
from dg_batchformer.selection import collect, formats, leaderboard, report
from dg_batchformer.selection.compare import RESAMPLES, SIGNIFICANT
from dg_batchformer.selection.methods import METHODS

SELECTION = (Path(__file__).parents[1] / "docs" / "selection.md").read_text(encoding="utf-8")
SWEEPS = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text(encoding="utf-8")
DOCUMENT = Path(__file__).parents[1] / "docs" / "protocols.md"


def table():
    """Cells by row and protocol."""
    rows = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
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


@pytest.mark.parametrize(("document", "n"), [(SWEEPS, 4), (SELECTION, 5)], ids=["sweeps", "selection"])
def test_commands_parse(document, n):
    blocks = re.findall(r"^```bash\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for line in "".join(blocks).replace("\\\n", "").splitlines()]
    assert len(commands) == n
    for command in commands:
        assert command[0] == "dg-batchformer"
        flags.parser().parse_args(command[1:])


def test_methods_formats_and_problems_are_those_that_there_are():
    assert first_cells("`--selection`", SELECTION) == list(METHODS)
    assert sorted(first_cells("`--format`", SELECTION)) == sorted(formats.names())
    assert all(f"`{name}`" in SELECTION for name in (*leaderboard.NEEDED, *leaderboard.OPTIONAL))
    assert f"{RESAMPLES:,} resamples" in SELECTION
    assert f"corrected p is below {SIGNIFICANT}" in SELECTION


def test_what_is_passed_over_is_all_told():
    kinds = [
        *(records.TORN, records.FOREIGN, records.OUT_OF_RANGE, records.REPEATED),
        *(collect.STRANGERS, collect.INCOMPLETE, collect.ILL_DESCRIBED, collect.NO_ARGS, collect.UNREADABLE),
        *(collect.UNFINISHED, collect.UNUSABLE, collect.LEFT_OUT, collect.TWICE, collect.NO_RUN),
        *(report.NEVER_LEFT_OUT, report.MIXED_VERSIONS, leaderboard.WITHOUT_RUNS, leaderboard.WITHOUT_COLUMN),
    ]
    assert sorted(first_cells("What is amiss", SELECTION)) == sorted(kind.strip("`") for kind in kinds)


def test_seconds_of_claims_are_those_of_the_code():
    assert f"every {claim.BEAT_SECONDS:.0f} seconds" in SWEEPS
    assert f"for {claim.LEASE_SECONDS:.0f} seconds" in SWEEPS
