"""Runs followed by TensorBoard, MLflow and W&B, read back with their own tools."""

import importlib.util
import json

import pytest

from dg_batchformer.data import load_dataset
from dg_batchformer.errors import InputError
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import TRACKERS, RunArguments
from dg_batchformer.training import tracking, trainer
from dg_batchformer.training.tracking import Tracked, Tracking

DIGITS = load_dataset("RotatedDigits")

# Their own warnings, about what they use.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture(autouse=True)
def own_stores(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def train(folder, track, **given):
    arguments = RunArguments(
        output_dir=str(folder),
        steps=5,
        checkpoint_freq=2,
        hparams='{"batch_size": 8}',
        skip_model_save=True,
        track=track,
        **given,
    )
    trainer.run(arguments, DIGITS, echo=False)
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def in_tensorboard(folder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {name: [(one.step, one.value) for one in read.Scalars(name)] for name in read.Tags()["scalars"]}


def in_mlflow(folder, tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient()
    run_id = (folder / "mlflow-run-id.txt").read_text()
    names = client.get_run(run_id).data.metrics
    assert client.get_run(run_id).info.status == "FINISHED"
    return {name: [(one.step, one.value) for one in client.get_metric_history(run_id, name)] for name in names}


def leveldb_records(content):
    """The records of a log in LevelDB's format after W&B's header of 7 bytes: a record may be in several parts."""
    place, data = 7, b""
    while place < len(content):
        if 32768 - place % 32768 < 7:  # the end of a block
            place += 32768 - place % 32768
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        data += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield data
            data = b""


def in_wandb(folder, tmp_path):
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    found = {}
    for data in leveldb_records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        row = {one.key or one.nested_key[0]: json.loads(one.value_json) for one in record.history.item}
        for name, value in row.items():
            found.setdefault(name, []).append((row["step"], value))
    return found


READERS = {"tensorboard": in_tensorboard, "mlflow": in_mlflow, "wandb": in_wandb}


@pytest.mark.parametrize("name", TRACKERS)
def test_losses_accuracies_and_speed_are_written(tmp_path, name):
    records = train(tmp_path / "run", name)
    found = READERS[name](tmp_path / "run", tmp_path)
    for value in ("env0_in_acc", "env3_out_acc", "validation_loss", "images_per_second"):
        expected = [(record["step"], pytest.approx(record[value], rel=1e-5)) for record in records]
        assert found[value] == expected, value
    # That of the first step, as printed, and those of the checkpoints; a slow machine prints more.
    losses = [step for step, _ in found["loss"]]
    assert losses[:2] == [0, 0]
    assert {record["step"] for record in records} <= set(losses)


def test_a_resumed_run_shows_no_step_twice(tmp_path):
    tracked = Tracked(tmp_path, "run", {"lr": 1}, 0)
    for first in (0, 3):
        following = Tracking()
        following.start("tensorboard", tracked._replace(first=first))
        for step in range(first, 6):
            following.log(step, {"loss": first + step})
        following.end(failed=True)
    assert in_tensorboard(tmp_path, tmp_path)["loss"] == [(0, 0), (1, 1), (2, 2), (3, 6), (4, 7), (5, 8)]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_resumed_run_has_the_same_id(tmp_path, name):
    ids = []
    for first in (0, 3, 0):
        following = Tracking()
        following.start(name, Tracked(tmp_path, "run", {"lr": 1}, first))
        following.log(first, {"loss": 1.0})
        following.end(failed=False)
        ids.append((tmp_path / f"{name}-run-id.txt").read_text())
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("when", ["__init__", "log", "end"])
def test_a_tracker_that_fails_is_left(tmp_path, monkeypatch, capsys, when):
    def fail(*args, **given):
        raise OSError("server is away")

    monkeypatch.setattr(tracking.TensorBoard, when, fail)
    assert len(train(tmp_path / "run", "tensorboard")) == 3
    assert "no tracking any more (OSError: server is away)" in (tmp_path / "run" / "out.txt").read_text()


def test_it_does_not_change_a_run(tmp_path):
    plain, followed = (resolve(RunArguments(track=track)) for track in (None, "tensorboard"))
    assert plain.job_id == followed.job_id
    assert plain.identity(DIGITS) == followed.identity(DIGITS)
    assert not (tmp_path / "tensorboard").exists()


def test_bad_input(monkeypatch):
    with pytest.raises(InputError, match="unknown track 'comet': known are tensorboard, mlflow, wandb"):
        resolve(RunArguments(track="comet"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--track wandb needs its package: pip install 'dg-batchformer\[wandb\]'"):
        resolve(RunArguments(track="wandb"))
    assert list(tracking.TRACKERS) == list(TRACKERS)
