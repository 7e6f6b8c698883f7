"""Launchers by name."""

import pytest

from dg_batchformer.errors import InputError
from dg_batchformer.jobs.launchers import find_launcher
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Sweep, plan


def test_dummy_prints_the_commands(tmp_path, capsys):
    jobs = plan(Sweep(["RotatedDigits"], str(tmp_path / "sweep"), ["ERM"], n_hparams=1, n_trials=1))
    find_launcher("dummy").run(jobs, Options(), lambda ended: pytest.fail("ran"))
    assert capsys.readouterr().out.splitlines() == [job.command for job in jobs]
    assert not (tmp_path / "sweep").exists()


def test_unknown_launcher():
    with pytest.raises(InputError, match="unknown launcher 'locl': did you mean local"):
        find_launcher("locl")
