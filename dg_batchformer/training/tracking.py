"""What follows a run while it trains: TensorBoard, MLflow or Weights & Biases; a new one is a class here.

Each gets the values of single steps, as they are printed, and those of each checkpoint, under the names of the records.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

PROJECT = "dg-batchformer"
"""The MLflow experiment or W&B project, unless MLFLOW_EXPERIMENT_NAME or WANDB_PROJECT names another."""


class Tracked(NamedTuple):
    """A run to follow: its folder, name and settings, and the first step, which is above 0 if it resumes."""

    folder: Path
    name: str
    settings: Mapping[str, Any]
    first: int


class Tracker(Protocol):
    """Follows a run from its construction to `end`."""

    def __init__(self, tracked: Tracked) -> None: ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes values of a step."""

    def end(self, *, failed: bool) -> None:
        """Ends, possibly to be resumed."""


class TensorBoard:
    """Event files in the folder `tensorboard` of the run."""

    def __init__(self, tracked: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Values after the state from which the run resumes are not shown.
        self.writer = SummaryWriter(str(tracked.folder / "tensorboard"), purge_step=tracked.first)
        self.writer.add_text("settings", json.dumps(tracked.settings, indent=1, default=str), tracked.first)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def end(self, *, failed: bool) -> None:
        self.writer.close()


class MLflow:
    """A run in MLflow's store, that of MLFLOW_TRACKING_URI or its default."""

    def __init__(self, tracked: Tracked) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(name)
        place = tracked.folder / "mlflow-run-id.txt"
        if tracked.first and place.exists():
            self.run_id = place.read_text(encoding="utf-8")
            self.client.update_run(self.run_id, status="RUNNING")
            return
        self.run_id = self.client.create_run(experiment_id, run_name=tracked.name).info.run_id
        place.write_text(self.run_id, encoding="utf-8")
        for key, value in tracked.settings.items():
            self.client.log_param(self.run_id, key, value)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self.client.log_batch(self.run_id, [Metric(name, value, now, step) for name, value in values.items()])

    def end(self, *, failed: bool) -> None:
        self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


class WeightsAndBiases:
    """A run of Weights & Biases in the folder of the run; WANDB_MODE=offline sends nothing."""

    def __init__(self, tracked: Tracked) -> None:
        import wandb

        place = tracked.folder / "wandb-run-id.txt"
        if not (tracked.first and place.exists()):
            place.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=tracked.name,
            id=place.read_text(encoding="utf-8"),
            resume="allow",
            dir=str(tracked.folder),
            config=dict(tracked.settings),
        )
        # A resumed run repeats steps, which W&B's own counter does not allow.
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({"step": step, **values})

    def end(self, *, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}


class Tracking:
    """The tracker of a run, if there is one; when it fails it is left, with a note, and the run goes on."""

    def __init__(self) -> None:
        self.tracker: Tracker | None = None

    def start(self, name: str | None, tracked: Tracked) -> None:
        """Starts the tracker `name`, if any."""
        with self:
            self.tracker = TRACKERS[name](tracked) if name else None

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        # A server that is away, or a disk that is full, must not end a long run.
        print(f"no tracking any more ({type(error).__name__}: {error})", flush=True)
        self.tracker = None
        return True

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Sends the numbers among some values."""
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        with self:
            if self.tracker:
                self.tracker.log(step, {name: value for name, value in numbers.items() if name != "step"})

    def end(self, *, failed: bool) -> None:
        """Ends the tracker."""
        with self:
            if self.tracker:
                self.tracker.end(failed=failed)
