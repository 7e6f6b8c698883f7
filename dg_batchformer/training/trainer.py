"""One run, from its arguments to its records; an interrupted run resumes."""

import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dg_batchformer import contracts, machine
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.data.environments import Dataset
from dg_batchformer.errors import DivergedError, InputError, details, sentence
from dg_batchformer.hparams import seed_hash
from dg_batchformer.runs import files, resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.claim import Claim, LostError
from dg_batchformer.training import state as saved
from dg_batchformer.training.compute import Schedule, evaluate, training_features
from dg_batchformer.training.outputs import origin, save_model
from dg_batchformer.training.prediction import Saver
from dg_batchformer.training.process import SIGNALS, Asked, Interrupted, Progress, captured, handled
from dg_batchformer.training.retraining import ClassifierRetraining
from dg_batchformer.training.setup import Setup
from dg_batchformer.training.state import RunState


class Trainer:
    """Trains a claimed run until its end, or until `asked` has a stop signal."""

    def __init__(self, setup: Setup, asked: Asked, claim: Claim) -> None:
        self.run, self.dataset, self.splits = setup.run, setup.dataset, setup.splits
        self.compute, self.algorithm = setup.compute, setup.algorithm
        self.setup, self.asked, self.claim = setup, asked, claim
        self.arguments, self.hparams, self.protocol = self.run.arguments, self.run.hparams, self.run.protocol
        self.folder = self.run.folder
        rate = self.protocol.learning_rate if self.protocol.has_schedule else None
        self.state = RunState(self.algorithm, rate and Schedule(self.algorithm, rate, self.run.first_stage))
        self.is_second_stage = False
        self.saved = time.monotonic()
        if self.compute.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.environments = [environment.name for environment in self.dataset.environments]
        self.progress = Progress(self.folder, self.run.steps, self.environments)
        self.origin = origin(setup)

    def train(self) -> None:
        """The remaining steps, with the checkpoints of the protocol and one after the last step of a stage."""
        state = self.state
        self.progress.start(self.arguments, self.hparams, self.dataset.notes, self.origin, state.n_updates)
        if not self.is_second_stage:
            self._train_stage(self.run.first_stage)
        if not self.is_last_stage:
            self._start_second_stage()
        if self.is_second_stage:
            self._train_stage(self.run.steps)
        if not self.arguments.skip_model_save:
            save_model(self.folder / files.MODEL, self.setup, self.algorithm)

    @property
    def yields_one_model(self) -> bool:
        """Whether only the algorithm's final model counts, and not its checkpoints."""
        return hasattr(self.algorithm, "finish")

    @property
    def is_last_stage(self) -> bool:
        return self.is_second_stage or self.run.first_stage == self.run.steps

    def _train_stage(self, end: int) -> None:
        """The remaining steps of a stage, which ends before step `end`."""
        state = self.state
        minibatches = self._minibatches()
        try:
            if state.checkpoint_due:
                self._checkpoint(state.n_updates - 1)
            for step in range(state.n_updates, end):
                self._update(step, next(minibatches))
                if self.protocol.is_checkpoint(step, self.run.checkpoint_freq) or step == end - 1:
                    state.checkpoint_due = True
                    self._checkpoint(step)
                if time.monotonic() - self.saved >= 60 * self.arguments.checkpoint_minutes:
                    self._save_state()
                self._leave_if_asked()
        except Interrupted:
            self._save_state()
            raise
        if self.yields_one_model:
            self._finish()

    def _start_second_stage(self) -> None:
        """Replaces the algorithm by a new classifier on its features."""
        self.is_second_stage = True
        algorithm = ClassifierRetraining(self.algorithm.featurizer, self.dataset.num_classes, self.hparams)
        self.algorithm = self.state.algorithm = self.compute.place(algorithm)
        self.state.schedule = None
        print(f"second stage: a new classifier on the frozen features, from step {self.state.n_updates}", flush=True)

    def resume(self) -> list[str]:
        """Restores the last saved state in the folder, if there is one; returns notes about it."""
        state, notes = saved.load(self.folder, self.run.identity(self.dataset))
        if state is None:
            return notes
        lacking = self.folder.cut_records(state["files"])
        if lacking:
            # These must not count as newer than the states that this run saves from now on.
            for path in self.folder.saved_states():
                saved.set_aside(path)
            return [*notes, f"{lacking}: starting from the beginning"]
        if state.get("is_second_stage"):
            self._start_second_stage()
        self.state.load_state_dict(state)
        return [*notes, f"resuming after {self.state.n_updates} updates"]

    def _save_state(self) -> None:
        self.claim.keep()
        state = self.state.state_dict() | {"is_second_stage": self.is_second_stage, "files": self.folder.record_sizes()}
        saved.save(self.folder, self.state.n_updates, self.run.identity(self.dataset), state)
        self.saved = time.monotonic()

    def _leave_if_asked(self) -> None:
        self.asked.leave()
        if self.claim.lost.is_set():
            self.claim.keep()

    def _minibatches(self) -> Iterator[Minibatches]:
        """The minibatches of the remaining steps; the algorithm observes again the earlier ones that it needs."""
        if self.is_second_stage:
            return self.setup.minibatches(self.state.n_updates - self.run.first_stage, balanced=True)
        remembered = min(getattr(self.algorithm, "remembers", 0), self.state.n_updates)
        minibatches = self.setup.minibatches(self.state.n_updates - remembered)
        for _ in range(remembered):
            self.algorithm.observe(next(minibatches))
        return minibatches

    def _update(self, step: int, minibatches: Minibatches) -> None:
        state = self.state
        if getattr(self.algorithm, "awaits_features", False):
            what = self.algorithm, self.dataset, self.splits, self.run.training_envs, self.compute
            self.algorithm.see_features(*training_features(*what))
        with self.compute.autocast():
            state.values[step] = contracts.update(self.algorithm, minibatches, step)
        if state.schedule:
            state.schedule.after(step)
        n_images = sum(len(x) for x, _ in minibatches)
        state.segment_images += n_images
        self.progress.images += n_images
        state.n_updates = step + 1
        if self.progress.due(step):
            self.progress.step(step, self._read_values()[-1])

    def _read_values(self) -> list[dict[str, float]]:
        """The values of the steps since the last checkpoint; all are finite."""
        rows = self.state.read_values()
        for step, row in rows.items():
            self._stop_if_diverged(step, row)
            self.state.last_values = row
        return list(rows.values())

    def _checkpoint(self, step: int) -> None:
        """Evaluates the current weights and writes the record; after an interruption it is still due."""
        state = self.state
        means = self._means()
        # As in DomainBed, over all environments.
        steps_per_epoch = min(len(split.inside) for split in self.splits) / self.hparams["batch_size"]
        evaluated = self._evaluate(step)
        self._stop_if_diverged(step, {"validation_loss": evaluated["validation_loss"]})
        state.record = {
            "step": step,
            "epoch": step / steps_per_epoch,
            **means,
            **evaluated,
            "mem_gb": machine.gpu_gb() or 0.0,
            "run_seconds": time.monotonic() - state.started,
            **self.origin,
            "environments": self.environments,
            "hparams": self.hparams,
            "args": self.arguments.values,
        }
        self.claim.keep()
        if hasattr(self.algorithm, "on_validation"):
            self.algorithm.on_validation(step, evaluated["validation_loss"])
        files.append(self.folder / self._records_file(is_final=not self.yields_one_model), state.record)
        if self.arguments.save_model_every_checkpoint:
            save_model(self.folder / f"model_step{step}.pkl", self.setup, self.algorithm)
        self.progress.checkpoint(state.record, self.arguments.test_envs)
        state.values = {}
        state.segment_started, state.segment_images = time.monotonic(), 0
        state.checkpoint_due = False

    def _means(self) -> dict[str, float]:
        """The mean of each value since the last checkpoint, the seconds per step, and images per second."""
        rows = self._read_values()
        seconds = time.monotonic() - self.state.segment_started  # the device has finished its work only now
        names = dict.fromkeys(name for row in rows for name in row)
        means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
        return {**means, "step_time": seconds / len(rows), "images_per_second": self.state.segment_images / seconds}

    def _evaluate(self, step: int | str) -> dict[str, Any]:
        augment = None
        if self.hparams.get("val_augment"):
            augment = torch.Generator().manual_seed(seed_hash(self.arguments.seed, "validation", step))

        def progress(n_done: int, n_images: int) -> None:
            self._leave_if_asked()
            self.progress.evaluation(n_done, n_images)

        what = self.algorithm, self.dataset, self.splits, self.run.training_envs, self.compute
        saver = Saver(self.setup, step)
        see = saver.see if self.arguments.save_predictions else None
        return evaluate(*what, progress, augment, by_class=self.run.is_by_class, see=see) | saver.write()

    def _finish(self) -> None:
        """Makes the final model of an algorithm with `finish()`, and writes its record."""
        self._save_state()  # there is no way back after it has made its model
        self.algorithm.finish()
        record = {**self.state.record, **self._evaluate("final"), "run_seconds": time.monotonic() - self.state.started}
        if hasattr(self.algorithm, "swad_window"):
            record["swad_window"] = self.algorithm.swad_window
        self.claim.keep()
        files.append(self.folder / self._records_file(is_final=True), record)
        self.progress.checkpoint(record, self.arguments.test_envs)

    def _records_file(self, *, is_final: bool) -> str:
        """The file of a record: results have only those of the last stage that may be selected."""
        return files.RESULTS if is_final and self.is_last_stage else files.PROGRESS

    def _stop_if_diverged(self, step: int, values: dict[str, float]) -> None:
        if not all(math.isfinite(value) for value in values.values()):
            raise DivergedError(
                f"a value at step {step} is not finite: {values}; the last finite ones: "
                f"{self.state.last_values or 'none'}. Try a smaller lr or penalty weight"
            )


class FinishedError(InputError):
    """The folder has a finished run."""


def run(
    arguments: RunArguments,
    dataset: Dataset | None = None,
    *,
    echo: bool = True,
    overwrite: bool = False,
    lost_claim: str = "",
) -> None:
    """Trains one algorithm with some environments left out, and writes the files of the run.

    An interrupted run resumes from its last saved state, with the same result. A given `dataset` is not loaded again.
    Without `echo` the output goes to `out.txt` only; `overwrite` replaces a run in the folder. Raises InputError before
    anything is written; TakenError if another process has the run, unless its claim is `lost_claim`; Interrupted after
    SIGTERM, SIGUSR1 or SIGINT, with the run saved; and any later failure, recorded in `failed` and `err.txt`.
    """
    resolved = resolve(arguments)
    folder = resolved.folder
    if not overwrite and folder.is_done:
        raise FinishedError(f"{folder} holds a finished run: give another --output_dir, or --overwrite to replace it")
    if not overwrite and (other := folder.other_run(arguments.key)):
        raise InputError(
            f"{folder} holds records of another run ({other}): give another --output_dir, or --overwrite to replace it"
        )
    setup = Setup.from_run(resolved, dataset)
    asked = Asked()
    # This order also handles a second signal while the claim ends.
    with handled(SIGNALS, asked.note), folder.claimed(lost_claim) as claim:
        if not overwrite and folder.is_done:
            return  # finished by another process before our claim
        if overwrite:
            folder.clear_saved_states()
        folder.clear_live()  # left by a killed process
        train(Trainer(setup, asked, claim), echo=echo)
        claim.keep()
        folder.mark_done()


def train(trainer: Trainer, *, echo: bool) -> None:
    """Starts or resumes a run and trains it to its end; marks a failure."""
    folder, notes = trainer.folder, trainer.resume()
    if not trainer.state.n_updates and folder.clear_earlier_run():
        notes.append(f"{folder} held an earlier run: replacing it")
    with captured(folder, echo=echo):
        print(*notes, sep="\n", end="\n" * bool(notes))
        try:
            trainer.train()
        except Interrupted as error:
            print(f"stopped by {error.signal_name} after {trainer.state.n_updates} updates: the same command resumes")
            raise
        except LostError:
            raise
        except Exception as error:
            trainer.claim.keep()
            folder.mark_failed(sentence(error), details(error))
            raise
        finally:
            trainer.progress.tracking.end(failed=sys.exc_info()[0] is not None)
            if not trainer.claim.lost.is_set():
                folder.clear_live()
