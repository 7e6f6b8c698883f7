"""The training of a run: its steps, its checkpoints, and its state."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dg_batchformer import machine
from dg_batchformer.data.batches import Minibatches, load
from dg_batchformer.data.environments import Dataset
from dg_batchformer.hparams import seed_hash
from dg_batchformer.networks import describe
from dg_batchformer.runs import records
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.claim import Claim
from dg_batchformer.runs.failures import DivergedError
from dg_batchformer.runs.protocols import find_protocol
from dg_batchformer.training import resume
from dg_batchformer.training.compute import Compute, Values
from dg_batchformer.training.evaluate import evaluate
from dg_batchformer.training.interrupt import Asked, Interrupted
from dg_batchformer.training.model_file import save_model
from dg_batchformer.training.parts import (
    identity,
    length,
    make_algorithm,
    seed_everything,
    training_steps,
)
from dg_batchformer.training.progress import Progress
from dg_batchformer.training.schedule import Schedule
from dg_batchformer.training.state import algorithm_state, random_state, restore_algorithm, restore_random_state


class Trainer:
    """The state of a run while it lasts: `n_updates` are done, and a checkpoint may be due after the last of them."""

    def __init__(self, arguments: RunArguments, hparams: dict[str, Any], dataset: Dataset) -> None:
        self.arguments, self.hparams, self.dataset = arguments, hparams, dataset
        self.protocol = find_protocol(arguments.protocol)
        self.splits = self.protocol.splits(
            dataset.sizes, arguments.holdout_fraction, arguments.trial_seed, arguments.test_envs
        )
        self.folder = Path(arguments.output_dir)
        self.steps, self.checkpoint_freq = length(arguments)
        self.compute = Compute.of(arguments)
        self.n_updates, self.checkpoint_due = 0, False
        self.record: records.Record = {}
        self.values = Values()
        self.last_values: dict[str, float] = {}
        self.started = self.segment_started = self.saved = time.monotonic()
        self.segment_images = 0
        self.asked: Asked
        self.claim: Claim
        if self.compute.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seed_everything(arguments.seed)
        self.shape = {
            "input_shape": dataset.input_shape,
            "num_classes": dataset.num_classes,
            "num_domains": len(self.splits) - len(arguments.test_envs),
        }
        self.algorithm = self.compute.place(make_algorithm(arguments, dataset, hparams))
        self.schedule: Schedule | None = None
        if self.protocol.has_schedule:
            self.schedule = Schedule(self.algorithm, self.protocol.learning_rate, self.steps)
        self.yields_one_model = hasattr(self.algorithm, "finish")
        featurizer = getattr(self.algorithm, "featurizer", None)
        self.progress = Progress(self.folder, self.steps, [environment.name for environment in dataset.environments])
        self.identity: dict[str, Any] = {
            **(describe(featurizer, hparams) if featurizer is not None else {}),
            "data_fingerprint": dataset.fingerprint,
            **({"skipped_images": dataset.skipped} if dataset.skipped else {}),
            "device": machine.device_name(),
            "versions": machine.versions(),
        }

    def train(self, asked: Asked, claim: Claim) -> None:
        """All steps that are left, with the protocol's checkpoints and one after the last step."""
        self.asked, self.claim = asked, claim
        self.progress.start(self.arguments, self.hparams, self.dataset.notes, self.identity, self.n_updates)
        minibatches = self._minibatches()
        try:
            if self.checkpoint_due:
                self._checkpoint(self.n_updates - 1)
            for step in range(self.n_updates, self.steps):
                self._update(step, next(minibatches))
                if self.protocol.is_checkpoint(step, self.checkpoint_freq) or step == self.steps - 1:
                    self.checkpoint_due = True
                    self._checkpoint(step)
                if time.monotonic() - self.saved >= 60 * self.arguments.checkpoint_minutes:
                    self._save_state()
                self._leave_if_asked()
        except Interrupted:
            self._save_state()
            raise
        if self.yields_one_model:
            self._save_state()  # for there is no going back once it has made its model
            self.algorithm.finish()
            final = {**self.record, **self._evaluate("final"), **self._finished()}
            self.claim.keep()
            records.append(self.folder / records.RESULTS, final)
            self.progress.checkpoint(final, self.arguments.test_envs)
        if not self.arguments.skip_model_save:
            self._save(records.MODEL)

    def _leave_if_asked(self) -> None:
        self.asked.leave()
        if self.claim.lost.is_set():
            self.claim.keep()

    def _minibatches(self) -> Iterator[Minibatches]:
        """The minibatches of the steps that are left; what they are follows from the seed and the step alone."""
        remembered = min(getattr(self.algorithm, "remembers", 0), self.n_updates)
        steps = training_steps(self.arguments, self.hparams, self.dataset, self.splits)
        left = itertools.islice(steps, self.n_updates - remembered, None)
        minibatches = load(self.dataset, left, self.compute.device)
        for _ in range(remembered):
            self.algorithm.observe(next(minibatches))
        return minibatches

    def go_on(self) -> list[str]:
        """Goes to the last state in the folder, if there is one; returns what there is to say of it."""
        what = identity(self.arguments, self.hparams, self.dataset)
        state, notes = resume.load(self.folder, what)
        if state is None:
            return notes
        lacking = records.cut(self.folder, state["files"])
        if lacking:
            # What this run saves from now on is not to be taken for older than they are.
            for path in resume.newest_first(self.folder):
                resume.set_aside(path)
            return [*notes, f"{lacking}: starting from the beginning"]
        self._restore(state)
        return [*notes, f"going on after {self.n_updates} updates"]

    def _restore(self, state: dict[str, Any]) -> None:
        restore_algorithm(self.algorithm, state["algorithm"])
        if self.schedule:
            self.schedule.restore(state["schedule"])
        self.n_updates, self.checkpoint_due = state["n_updates"], state["checkpoint_due"]
        self.record, self.last_values = state["record"], state["last_values"]
        self.values.by_step, self.values.steps = state["values"], state["steps"]
        now = time.monotonic()
        self.started, self.segment_started = now - state["seconds"], now - state["segment_seconds"]
        self.segment_images = state["segment_images"]
        restore_random_state(state["random"])

    def _save_state(self) -> None:
        """Writes all that the rest of the run depends on."""
        self.claim.keep()
        now = time.monotonic()
        state = {
            "n_updates": self.n_updates,
            "checkpoint_due": self.checkpoint_due,
            "algorithm": algorithm_state(self.algorithm),
            "schedule": self.schedule.state() if self.schedule else None,
            "random": random_state(),
            "record": self.record,
            "values": self.values.read(),
            "steps": self.values.steps,
            "last_values": self.last_values,
            "seconds": now - self.started,
            "segment_seconds": now - self.segment_started,
            "segment_images": self.segment_images,
            "files": records.sizes(self.folder),
        }
        resume.save(self.folder, self.n_updates, identity(self.arguments, self.hparams, self.dataset), state)
        self.saved = time.monotonic()

    def _update(self, step: int, minibatches: Minibatches) -> None:
        with self.compute.autocast():
            self.values.add(step, self.algorithm.update(minibatches))
        if self.schedule:
            self.schedule.after(step)
        n_images = sum(len(x) for x, _ in minibatches)
        self.segment_images += n_images
        self.progress.count(n_images)
        self.n_updates = step + 1
        if self.progress.due(step):
            self.progress.step(step, self._read()[-1])

    def _read(self) -> list[dict[str, float]]:
        """The values of the steps since the last checkpoint, all of them finite."""
        rows = self.values.read()
        for step, row in zip(self.values.steps, rows, strict=True):
            self._stop_if_diverged(step, row)
            self.last_values = row
        return rows

    def _checkpoint(self, step: int) -> None:
        """Evaluates the current weights and writes the record; an interruption on the way leaves it due."""
        means = self._means()
        # As in DomainBed, over all environments, the test environments too.
        steps_per_epoch = min(len(split.inside) for split in self.splits) / self.hparams["batch_size"]
        evaluated = self._evaluate(step)
        self._stop_if_diverged(step, {"validation_loss": evaluated["validation_loss"]})
        self.record = {
            "step": step,
            "epoch": step / steps_per_epoch,
            **means,
            **evaluated,
            "mem_gb": machine.gpu_gb() or 0.0,
            "run_seconds": time.monotonic() - self.started,
            **self.identity,
            "environments": [environment.name for environment in self.dataset.environments],
            "hparams": self.hparams,
            "args": dataclasses.asdict(self.arguments),
        }
        self.claim.keep()
        if hasattr(self.algorithm, "on_validation"):
            self.algorithm.on_validation(step, evaluated["validation_loss"])
        name = records.PROGRESS if self.yields_one_model else records.RESULTS
        records.append(self.folder / name, self.record)
        if self.arguments.save_model_every_checkpoint:
            self._save(f"model_step{step}.pkl")
        self.progress.checkpoint(self.record, self.arguments.test_envs)
        self.values.clear()
        self.segment_started, self.segment_images = time.monotonic(), 0
        self.checkpoint_due = False

    def _means(self) -> dict[str, float]:
        """The mean of each value since the last checkpoint, the seconds of a step, and images a second."""
        rows = self._read()
        # Only now has the device done all that it was given.
        seconds = time.monotonic() - self.segment_started
        names = dict.fromkeys(name for row in rows for name in row)
        means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
        return {**means, "step_time": seconds / len(rows), "images_per_second": self.segment_images / seconds}

    def _evaluate(self, step: int | str) -> dict[str, float]:
        augment = None
        if self.hparams.get("val_augment"):
            augment = torch.Generator().manual_seed(seed_hash(self.arguments.seed, "validation", step))

        def progress(n_done: int, n_images: int) -> None:
            self._leave_if_asked()
            self.progress.evaluation(n_done, n_images)

        test_envs = self.arguments.test_envs
        return evaluate(self.algorithm, self.dataset, self.splits, test_envs, self.compute, progress, augment)

    def _finished(self) -> dict[str, Any]:
        """What `finish()` says of the model it made."""
        return {
            "run_seconds": time.monotonic() - self.started,
            **({"swad_window": self.algorithm.swad_window} if hasattr(self.algorithm, "swad_window") else {}),
        }

    def _save(self, name: str) -> None:
        save_model(self.folder / name, self.algorithm, dataclasses.asdict(self.arguments), self.hparams, self.shape)

    def _stop_if_diverged(self, step: int, values: dict[str, float]) -> None:
        if not all(math.isfinite(value) for value in values.values()):
            raise DivergedError(
                f"at step {step} the values are {values}, not all finite; before it had "
                f"{self.last_values or 'none'}. Try a smaller lr or penalty weight"
            )
