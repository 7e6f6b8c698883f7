"""The expected time of a run."""

import dataclasses
import math

import pytest

from dg_batchformer.data.benchmarks import load_dataset
from dg_batchformer.errors import InputError
from dg_batchformer.jobs import prepare
from dg_batchformer.jobs.folder import check_data
from dg_batchformer.jobs.plan import Sweep, plan
from dg_batchformer.runs.arguments import RunArguments


def test_time_is_steps_and_evaluations(monkeypatch, tmp_path):
    dataset = load_dataset("Debug28")
    # A clock that adds a second each time it is read: three steps take one, an evaluated batch one.
    ticks = iter(range(1000))
    monkeypatch.setattr(prepare.time, "monotonic", lambda: float(next(ticks)))
    arguments = RunArguments(dataset="Debug28", steps=30, checkpoint_freq=10, output_dir=str(tmp_path / "none"))
    inside = 16 - 3
    assert prepare.probe_seconds(arguments, dataset, 1) == pytest.approx(30 / 3 + 4 * 48 / inside)
    longer = dataclasses.replace(arguments, steps=60, checkpoint_freq=60)
    assert prepare.probe_seconds(longer, dataset, 1) == pytest.approx(60 / 3 + 2 * 48 / inside)
    assert not (tmp_path / "none").exists()


def test_data_that_have_changed_are_refused_before_anything_is_tried(tmp_path, monkeypatch):
    jobs = plan(Sweep(["Debug28"], str(tmp_path / "sweep"), ["ERM"], n_hparams=1, n_trials=1, steps=2))
    monkeypatch.setattr(prepare, "probe_seconds", lambda *args: 2.0)
    assert prepare.expected_seconds(jobs, jobs, 1) == 2.0 * len(jobs)
    assert not (tmp_path / "sweep").exists()
    check_data(tmp_path / "sweep", "Debug28", "of other data")
    monkeypatch.setattr(prepare, "probe_seconds", None)
    with pytest.raises(InputError, match="the data of Debug28 have changed since the sweep in"):
        prepare.expected_seconds(jobs, jobs, 1)


def test_a_run_that_fails_when_it_is_timed_costs_no_other(tmp_path, monkeypatch, capsys):
    jobs = plan(Sweep(["Debug28"], str(tmp_path / "sweep"), ["ERM"], n_hparams=1, n_trials=1))

    def grab(*args):
        raise MemoryError

    monkeypatch.setattr(prepare, "probe_seconds", grab)
    assert math.isnan(prepare.expected_seconds(jobs, jobs, 1))
    assert "note: Debug28 could not be timed: out of memory (MemoryError: )" in capsys.readouterr().out
