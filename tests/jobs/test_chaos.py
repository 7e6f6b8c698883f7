"""`make chaos` in short."""

from pathlib import Path

import pytest
from chaos import compare


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to find processes")
def test_a_sweep_that_is_disturbed_ends_like_one_that_is_not(tmp_path):
    said = compare(tmp_path, n_kills=6, n_trials=1, steps=60, pause=1.0, seed=1)
    assert said[0].startswith("12 runs, ")
    assert "6 kills" in said
    assert said[-1] == "the tables are equal, and all records but for their times"
