"""Which algorithms of the peers work with which modifier; the page in the documentation has the tables."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .peers import checkout

DOCS = Path(__file__).parents[2] / "docs" / "other-code.md"
# Checkout: its package, and how many algorithms at least train with BatchFormer.
PEERS = {
    "DomainBed": ("domainbed", 29),
    "swad": ("domainbed", 17),
    "miro": ("domainbed", 16),
    "multi-domain-imbalance": ("mdlt", 19),
}


@pytest.mark.domainbed
@pytest.mark.parametrize("peer", PEERS)
def test_every_algorithm_trains_or_is_an_error_with_a_reason_and_the_page_says_which(peer, tmp_path):
    package, least = PEERS[peer]
    wilds = tmp_path / "wilds" / "datasets"
    wilds.mkdir(parents=True)
    for module, name in (("camelyon17_dataset", "Camelyon17Dataset"), ("fmow_dataset", "FMoWDataset")):
        (wilds / f"{module}.py").write_text(f"{name} = object\n")
    path = os.pathsep.join([str(checkout(peer)), str(tmp_path)])
    command = [sys.executable, str(Path(__file__).with_name("support.py")), package]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    table = json.loads(done.stdout.splitlines()[-1])
    assert sum(row["BatchFormer"] == "trains" for row in table.values()) >= least
    modifiers = list(next(iter(table.values())))
    lines = [f"| Algorithm | {' | '.join(modifiers)} |", "|---" * (1 + len(modifiers)) + "|"]
    lines += [f"| {name} | {' | '.join(row[one] for one in modifiers)} |" for name, row in table.items()]
    begin, end = f"<!-- {peer} -->\n", "<!-- end -->"
    before, found, rest = DOCS.read_text().partition(begin)
    assert found
    now = f"{before}{begin}{chr(10).join(lines)}\n{end}{rest.partition(end)[2]}"
    if os.environ.get("WRITE_DOCS"):
        DOCS.write_text(now)
    assert DOCS.read_text() == now, "run this test with WRITE_DOCS=1 to update docs/other-code.md"
