"""`make chaos` in short."""

from pathlib import Path

import pytest
from chaos import TooSoonError, compare


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to find processes")
def test_a_sweep_that_is_disturbed_ends_like_one_that_is_not(tmp_path):
    said = disturbed(tmp_path, steps=60)
    assert said[0].startswith("12 runs, ")
    assert "6 kills" in said
    assert said[-1] == "the tables are equal, and all records but for their times"


def disturbed(folder: Path, steps: int) -> list[str]:
    """What was done to a sweep of runs that are long enough, on this machine, for six kills."""
    try:
        return compare(folder / str(steps), n_kills=6, n_trials=1, steps=steps, pause=1.0, seed=1)
    except TooSoonError:
        if steps > 1000:
            raise
        return disturbed(folder, 2 * steps)
