"""The figures of a run that lasts: right while it does, gone when it ends, however it ends."""

import errno

import pytest

from dg_batchformer.errors import DivergedError
from dg_batchformer.runs import files
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.folder import Live, RunFolder
from dg_batchformer.training import process
from dg_batchformer.training.process import Interrupted, Progress
from dg_batchformer.training.trainer import Trainer, run

STEPS = 5
BATCH = 4
"""Of each of the two training environments of Debug28."""


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "EVERY_SECONDS", 0.0)
    hparams = f'{{"batch_size": {BATCH}}}'
    return RunArguments(
        dataset="Debug28", steps=STEPS, checkpoint_freq=2, hparams=hparams, output_dir=str(tmp_path / "run")
    )


@pytest.fixture
def seen(monkeypatch):
    """The figures after each update."""
    found = []
    original = Trainer._update

    def update(self, step, minibatches):
        original(self, step, minibatches)
        found.append(self.folder.live())

    monkeypatch.setattr(Trainer, "_update", update)
    return found


def test_they_say_where_the_run_is(arguments, seen, tmp_path):
    run(arguments, echo=False)
    assert [(one.step, one.steps) for one in seen] == [(i + 1, STEPS) for i in range(STEPS)]
    assert all(one.images_per_second > 0 for one in seen)
    assert seen[-1].seconds_left == 0.0
    assert not (tmp_path / "run" / files.LIVE).exists()
    assert (tmp_path / "run" / files.DONE).exists()


def test_those_of_who_was_killed_are_gone_when_a_run_begins(arguments, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    RunFolder(tmp_path / "run").write_live(Live(99, 100, 1.0, None, 1.0))
    monkeypatch.setattr(Trainer, "train", lambda self: found.append(self.folder.live()))
    found = []
    run(arguments, echo=False)
    assert found == [None]


def test_a_rate_is_of_the_images_since_the_last_line_without_evaluations(tmp_path, monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("dg_batchformer.machine.gpu_gb", lambda: 2.5)
    shown = Progress(RunFolder(tmp_path), 10, ["a"])

    def train(step, seconds):
        now[0] += seconds
        shown.images += 32
        shown.step(step, {})
        return RunFolder(tmp_path).live()

    assert train(0, 8.0) == Live(1, 10, 4.0, 2.5, 72.0)
    assert train(1, 2.0) == Live(2, 10, 16.0, 2.5, 40.0)
    now[0] += 90.0  # an evaluation
    shown.checkpoint({"env0_in_acc": 1.0, "env0_out_acc": 1.0, "step": 1, "epoch": 0.1}, [0])
    assert train(2, 1.0).images_per_second == 32.0


def test_they_go_when_a_run_fails_or_is_interrupted(arguments, seen, tmp_path, monkeypatch):
    def diverges(self, step, values):
        if step == 3:
            raise DivergedError("at step 3")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_diverged", diverges)
        with pytest.raises(DivergedError):
            run(arguments, echo=False)
    assert seen[-1].step == 3
    assert not (tmp_path / "run" / files.LIVE).exists()

    def leave(self, step, values, original=Progress.step):
        original(self, step, values)
        if step == 2:
            raise Interrupted("SIGTERM")

    monkeypatch.setattr(Progress, "step", leave)
    with pytest.raises(Interrupted):
        run(arguments, echo=False)
    assert not (tmp_path / "run" / files.LIVE).exists()


def test_a_run_does_not_fail_for_want_of_them(arguments, seen, tmp_path, monkeypatch):
    original = files.write_whole

    def full(path, text):
        if path.name == files.LIVE:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, text)

    monkeypatch.setattr(files, "write_whole", full)
    run(arguments, echo=False)
    assert seen == [None] * STEPS
    assert (tmp_path / "run" / files.DONE).exists()
