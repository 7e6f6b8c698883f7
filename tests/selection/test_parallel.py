"""Several processes read what one reads, to the bit, whatever lies in the folder and whatever becomes of them."""

import json
import sys

import numpy as np
import pytest
from factories import args, record, write_run

from dg_batchformer import machine
from dg_batchformer.selection import index, parallel
from dg_batchformer.selection.collect import collect


@pytest.fixture
def folder(tmp_path):
    """A sweep of 8 runs, and some that are odd."""
    rng = np.random.default_rng(0)
    sweep = tmp_path / "sweep"
    for env in range(4):
        for trial in range(2):
            of = args([env], trial=trial)
            rows = [record(step, *rng.random((2, 4)).tolist(), of) for step in (0, 300, 600)]
            write_run(sweep / f"{env}{trial}", [{**row, "hparams": {"lr": rng.random()}} for row in rows])
    write_run(sweep / "again", [record(0, [0.5] * 4, [0.5] * 4, args([0]))])
    write_run(sweep / "unfinished", [record(0, [0.5] * 4, [0.5] * 4, args([1], hparams_seed=1))], done=False)
    (write_run(sweep / "torn", []) / "results.jsonl").write_text("{\n")
    (sweep / "planned").mkdir()
    (sweep / "planned" / "job.json").write_text(json.dumps(args([2], hparams_seed=1)))
    (sweep / "no run").mkdir()
    (sweep / "notes.txt").write_text("")
    return sweep


def several(monkeypatch, n):
    monkeypatch.setattr(machine, "available_cores", lambda: n)
    monkeypatch.setattr(parallel, "FEWEST", 1)


def plain(found):
    """All that was collected, as values that can be compared."""
    runs = [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(run).items()}
        for run in found.runs.values()
    ]
    return repr((list(found.runs), runs, found.planned, found.problems))


@pytest.mark.parametrize("n", [2, 3, 40])
def test_several_processes_find_what_one_finds(folder, monkeypatch, n):
    alone = plain(collect([folder]))
    (folder / index.INDEX).unlink(missing_ok=True)
    several(monkeypatch, n)
    monkeypatch.setattr(parallel, "read_share", Counting(parallel.read_share))
    assert plain(collect([folder])) == alone
    assert parallel.read_share.calls == 1  # its own share, and no helper's


@pytest.mark.parametrize("program", ["false", "true", "no such program"])
def test_a_share_whose_process_fails_is_read_here(folder, monkeypatch, program):
    alone = plain(collect([folder]))
    (folder / index.INDEX).unlink(missing_ok=True)
    several(monkeypatch, 3)
    monkeypatch.setattr(sys, "executable", program)
    assert plain(collect([folder])) == alone


class Counting:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *given):
        self.calls += 1
        return self.function(*given)


def test_the_index_gives_back_what_several_processes_read(folder, monkeypatch):
    several(monkeypatch, 2)
    monkeypatch.setattr(index, "SETTLED_NS", -(10**12))
    first = plain(collect([folder]))
    assert (folder / index.INDEX).exists()
    assert plain(collect([folder])) == first


def test_a_run_that_the_index_cannot_hold_is_read_all_the_same(folder, monkeypatch):
    of = {**args([3], hparams_seed=5), "seed": 2**70}
    write_run(folder / "huge", [record(0, [0.5] * 4, [0.5] * 4, of), record(0, [0.5] * 4, [0.5] * 4, of)])
    alone = plain(collect([folder]))
    several(monkeypatch, 2)
    assert plain(collect([folder])) == alone
    assert str(2**70) in alone
