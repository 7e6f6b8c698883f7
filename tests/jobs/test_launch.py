"""What is checked and timed before a launch."""

import dataclasses

import pytest
from factories import jobs_of

from dg_batchformer import jobs as room
from dg_batchformer.data import load_dataset
from dg_batchformer.errors import InputError
from dg_batchformer.jobs.folder import check_data
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.setup import Setup


@pytest.mark.slow
def test_time_is_steps_and_evaluations(monkeypatch, tmp_path):
    dataset = load_dataset("Debug28")
    # A clock that adds a second each time it is read: three steps take one, an evaluated batch one.
    ticks = iter(range(1000))
    arguments = RunArguments(dataset="Debug28", steps=30, checkpoint_freq=10, output_dir=str(tmp_path / "none"))
    longer = dataclasses.replace(arguments, steps=60, checkpoint_freq=60)
    setups = [Setup.from_run(resolve(one), dataset) for one in (arguments, longer)]
    monkeypatch.setattr(room.time, "monotonic", lambda: float(next(ticks)))
    inside = 16 - 3
    assert room.probe_seconds(setups[0], 1) == pytest.approx(30 / 3 + 4 * 48 / inside)
    assert room.probe_seconds(setups[1], 1) == pytest.approx(60 / 3 + 2 * 48 / inside)
    assert not (tmp_path / "none").exists()


def test_data_that_have_changed_are_refused_before_anything_is_tried(tmp_path, monkeypatch, capsys):
    jobs = jobs_of(tmp_path / "sweep", steps=2)
    monkeypatch.setattr(room, "probe_seconds", lambda *args: 2.0)
    room.announce(jobs, jobs, 1)
    assert (
        f"about to run {len(jobs)} in 1 process(es), expected to take 0:00:{2 * len(jobs):02}"
        in capsys.readouterr().out
    )
    assert not (tmp_path / "sweep").exists()
    check_data(tmp_path / "sweep", "Debug28", "of other data")
    monkeypatch.setattr(room, "probe_seconds", None)
    with pytest.raises(InputError, match="the data of Debug28 have changed since the sweep in"):
        room.announce(jobs, jobs, 1)


def test_a_run_that_fails_when_it_is_timed_costs_no_other(tmp_path, monkeypatch, capsys):
    jobs = jobs_of(tmp_path / "sweep")

    def grab(*args):
        raise MemoryError

    monkeypatch.setattr(room, "probe_seconds", grab)
    room.announce(jobs, jobs, 1)
    said = capsys.readouterr().out
    assert "note: Debug28 could not be timed: out of memory (MemoryError: )" in said
    assert "expected to take an unknown time" in said
