"""docs/protocols.md says what the protocols are."""

from pathlib import Path

import pytest

from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.registry import default_hparams
from dg_batchformer.training.protocols import PROTOCOLS

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
