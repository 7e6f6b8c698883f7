"""What README.md and CONTRIBUTING.md say is true: links lead somewhere, targets exist, the table adds up."""

import re
from pathlib import Path

import pytest

from dg_batchformer import ALGORITHMS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_links_lead_somewhere(text):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:\$ |`)make ([\w-]+)", README + CONTRIBUTING))
    assert targets >= {"demo", "docs", "fidelity", "test", "test-all"}
    assert all(f"\n{target}:" in makefile for target in targets)


def test_the_layout_exists():
    (layout,) = [block for block in re.findall(r"^```text\n(.*?)^```", CONTRIBUTING, re.M | re.S) if "library" in block]
    folder = ROOT
    for line in layout.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else ROOT / name.rstrip("/")
        assert (folder / name if line.startswith(" ") else folder).exists(), name


def test_the_demos_table_is_whole_and_adds_up():
    (demo,) = [block for block in re.findall(r"^```text\n(.*?)^```", README, re.M | re.S) if "Algorithm " in block]
    rows = {line.split()[0]: line.split()[1:] for line in demo.splitlines() if re.search(r"\d\.\d$", line)}
    assert list(rows) == list(ALGORITHMS)
    for columns in rows.values():
        *own, average, worst, macro = map(float, columns)
        assert len(own) == 4
        assert average == pytest.approx(sum(own) / 4, abs=0.1)
        assert worst == min(own)
        assert macro == pytest.approx(average, abs=1)
