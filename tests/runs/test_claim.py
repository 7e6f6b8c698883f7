"""Of any number of processes one has a run at a time, and a dead one's run is taken over."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from dg_batchformer.runs import claim, files
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.claim import LostError, Owner, TakenError, Watch, claimed, latest
from dg_batchformer.training.trainer import Trainer, run

ELSEWHERE = {"host": "another", "pid": 1, "since": 0.0}


def another(folder, number=1):
    """A claim of a process on another machine."""
    folder.mkdir(exist_ok=True)
    path = folder / f"claim-{number}.json"
    path.write_text(json.dumps(ELSEWHERE))
    return path


def test_one_at_a_time(tmp_path):
    with claimed(tmp_path / "run"), pytest.raises(TakenError, match=f"run by process {os.getpid()} on .*, since 20"):
        claimed(tmp_path / "run").__enter__()
    assert latest(tmp_path / "run").name == "claim-1.ended"
    with claimed(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["claim-2.json"]
        files.write_whole(tmp_path / "run" / files.DONE, "done")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["done"]


def test_of_many_that_want_it_one_gets_it(tmp_path):
    got, barrier, ended = [], threading.Barrier(16), threading.Event()

    def want():
        barrier.wait()
        try:
            with claimed(tmp_path / "run"):
                got.append(1)
                ended.wait()
        except TakenError:
            return

    threads = [threading.Thread(target=want) for _ in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    ended.set()
    for thread in threads:
        thread.join()
    assert got == [1]


def test_a_dead_process_of_this_machine_has_nothing(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = another(tmp_path / "run")
    path.write_text(json.dumps(asdict(replace(Owner.myself(), pid=dead.pid))))
    with claimed(tmp_path / "run"):
        assert latest(tmp_path / "run").name == "claim-2.json"


def test_one_of_another_machine_is_lost_when_it_shows_no_life(tmp_path, monkeypatch):
    path, watch, now = another(tmp_path / "run"), Watch(), [0.0]
    monkeypatch.setattr(claim.time, "monotonic", lambda: now[0])
    assert not watch.is_free(latest(path.parent))
    for _ in range(3):  # alive, whatever its clock says
        now[0] += claim.LEASE_SECONDS
        os.utime(path, (now[0] - 1e6, now[0] - 1e6))
        assert not watch.is_free(latest(path.parent))
    now[0] += claim.LEASE_SECONDS + 1
    assert watch.is_free(latest(path.parent))
    with pytest.raises(TakenError):
        claimed(path.parent).__enter__()
    with claimed(path.parent, lost_claim=path.name):
        assert latest(path.parent).name == "claim-2.json"


def test_a_number_that_was_used_before_is_no_claim(tmp_path, monkeypatch):
    """Of a process that stood still while others came and went."""
    folder, write = tmp_path / "run", claim.write

    def late(path, owner):
        another(folder, 2)  # claim 1 came and went
        write(path, owner)

    monkeypatch.setattr(claim, "write", late)
    with pytest.raises(TakenError):
        claimed(folder).__enter__()
    assert [path.name for path in folder.iterdir()] == ["claim-2.json"]


def test_files_that_look_like_claims_are_none(tmp_path):
    for name in ("claim-7 (copy).json", "claim-x.json", "claim-3.json.partial"):
        (tmp_path / name).touch()
    assert latest(tmp_path) is None
    with pytest.raises(NotADirectoryError):
        latest(tmp_path / "claim-x.json")  # which is not the same as none


def test_a_claim_that_is_being_written_is_a_claim(tmp_path):
    another(tmp_path / "run").write_text("")
    with pytest.raises(TakenError, match="is being run by a process that has just started"):
        claimed(tmp_path / "run").__enter__()


def test_signs_of_life_and_of_a_takeover(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.01)
    with claimed(tmp_path / "run") as claim_of_ours:
        path = latest(tmp_path / "run")
        os.utime(path, (0, 0))
        time.sleep(0.2)
        assert path.stat().st_mtime > 0
        assert not claim_of_ours.lost.is_set()
        another(tmp_path / "run", 2)
        assert claim_of_ours.lost.wait(5)
    assert sorted(one.name for one in (tmp_path / "run").iterdir()) == ["claim-1.json", "claim-2.json"]


@pytest.mark.parametrize("notices", ["by its beat", "when it is to write"])
def test_a_run_that_was_taken_over_writes_nothing_more(tmp_path, monkeypatch, notices):
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.01 if notices == "by its beat" else 1000)
    folder = tmp_path / "run"
    original = Trainer._update

    def update(self, step, minibatches):
        original(self, step, minibatches)
        if step == 1:
            another(folder, 2)
            assert notices != "by its beat" or self.claim.lost.wait(5)

    monkeypatch.setattr(Trainer, "_update", update)
    arguments = RunArguments(
        dataset="Debug28", steps=7, checkpoint_freq=3, hparams='{"batch_size": 4}', output_dir=str(folder)
    )
    with pytest.raises(LostError, match="another process has taken over the run"):
        run(arguments, echo=False)
    assert [json.loads(line)["step"] for line in (folder / files.RESULTS).read_text().splitlines()] == [0]
    assert not (folder / files.FAILED).exists()
    assert not list(folder.glob("resume-*"))
