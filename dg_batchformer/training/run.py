"""One run, from its arguments to its records."""

from __future__ import annotations

import dataclasses
import math
import random
import time
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dg_batchformer import machine
from dg_batchformer.data.batches import minibatches
from dg_batchformer.data.benchmarks import load_dataset
from dg_batchformer.data.environments import Dataset
from dg_batchformer.data.splits import Split, split_environments
from dg_batchformer.errors import InputError
from dg_batchformer.networks import describe
from dg_batchformer.registry import get_algorithm_class
from dg_batchformer.training import records
from dg_batchformer.training.arguments import RunArguments, check
from dg_batchformer.training.checkpoint import save_model
from dg_batchformer.training.evaluate import evaluate
from dg_batchformer.training.features import with_features
from dg_batchformer.training.progress import Progress


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


def run(arguments: RunArguments, dataset: Dataset | None = None, *, echo: bool = True, overwrite: bool = False) -> None:
    """Trains one algorithm with some environments left out, and writes the files of the run.

    `dataset` spares loading it again; without `echo` nothing is printed but to `out.txt`; a finished run in the folder
    is replaced with `overwrite` alone. Wrong arguments are an InputError before anything is written. What fails later
    is raised too, and stands in `failed` and `err.txt`.
    """
    hparams = check(arguments)
    if not overwrite and records.state_of(Path(arguments.output_dir)) == "done":
        raise InputError(
            f"{arguments.output_dir} holds a finished run: give another --output_dir, or --overwrite to replace it"
        )
    dataset = with_features(dataset or load_dataset(**data_arguments(arguments)), hparams)
    splits = split_environments(dataset.sizes, arguments.holdout_fraction, arguments.trial_seed)
    prepared = _Run(arguments, hparams, dataset, splits)
    folder = Path(arguments.output_dir)
    replaced = records.start(folder)
    with records.captured(folder, echo=echo):
        if replaced:
            print(f"{folder} held an earlier run, which this one replaces")
        try:
            prepared.train()
        except Exception as error:
            with (folder / records.ERR).open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
            records.mark(folder / records.FAILED, f"{type(error).__name__}: {error}\n")
            raise
    records.mark(folder / records.DONE, "done")


def data_arguments(arguments: RunArguments) -> dict[str, Any]:
    """What `load_dataset` takes of a run's arguments."""
    return {
        "name": arguments.dataset,
        "data_dir": arguments.data_dir,
        "cache_dir": arguments.cache_dir,
        "skip_corrupt": arguments.skip_corrupt,
    }


class _Run:
    """The state of a run while it lasts."""

    def __init__(self, arguments: RunArguments, hparams: dict[str, Any], dataset: Dataset, splits: list[Split]) -> None:
        self.arguments, self.hparams, self.dataset, self.splits = arguments, hparams, dataset, splits
        self.folder = Path(arguments.output_dir)
        self.steps = arguments.steps or dataset.steps
        self.checkpoint_freq = arguments.checkpoint_freq or dataset.checkpoint_freq
        self.device = machine.device()
        self.training = [i for i in range(len(splits)) if i not in arguments.test_envs]
        self.started = time.monotonic()
        self.last_values: dict[str, float] = {}
        seed_everything(arguments.seed)
        self.shape = {
            "input_shape": dataset.input_shape,
            "num_classes": dataset.num_classes,
            "num_domains": len(self.training),
        }
        self.algorithm = make_algorithm(arguments, dataset, hparams).to(self.device)
        self.yields_one_model = hasattr(self.algorithm, "finish")
        featurizer = getattr(self.algorithm, "featurizer", None)
        self.progress = Progress(self.steps, [environment.name for environment in dataset.environments])
        self.identity: dict[str, Any] = {
            **(describe(featurizer, hparams) if featurizer is not None else {}),
            **({"skipped_images": dataset.skipped} if dataset.skipped else {}),
            "device": machine.device_name(),
            "versions": machine.versions(),
        }

    def train(self) -> None:
        """All steps, with a checkpoint each `checkpoint_freq` of them and after the last."""
        self._print_header()
        steps = minibatches(
            self.dataset, self.splits, self.arguments.test_envs, self.hparams, self.arguments.seed, self.device
        )
        values: defaultdict[str, list[float]] = defaultdict(list)
        for step in range(self.steps):
            step_started = time.monotonic()
            step_values = self.algorithm.update(next(steps))
            values["step_time"].append(time.monotonic() - step_started)
            self._stop_if_diverged(step, step_values)
            self.last_values = step_values
            for name, value in step_values.items():
                values[name].append(value)
            self.progress.step(step, step_values)
            if step % self.checkpoint_freq == 0 or step == self.steps - 1:
                record = self._checkpoint(step, values)
                self.progress.checkpoint(record, self.arguments.test_envs)
                values.clear()
        if self.yields_one_model:
            self.algorithm.finish()
            final = {**record, **self._evaluate(), **self._finished()}
            records.append(self.folder / records.RESULTS, final)
            self.progress.checkpoint(final, self.arguments.test_envs)
        if not self.arguments.skip_model_save:
            self._save(records.MODEL)

    def _checkpoint(self, step: int, values: dict[str, list[float]]) -> records.Record:
        """Evaluates the current weights and writes the record."""
        batch = self.hparams["batch_size"]
        # As in DomainBed, over all environments, the test environments too.
        steps_per_epoch = min(len(split.inside) for split in self.splits) / batch
        evaluated = self._evaluate()
        self._stop_if_diverged(step, {"validation_loss": evaluated["validation_loss"]})
        record = {
            "step": step,
            "epoch": step / steps_per_epoch,
            **{name: float(np.mean(value)) for name, value in values.items()},
            **evaluated,
            "mem_gb": torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else 0.0,
            "images_per_second": batch * len(self.training) / float(np.mean(values["step_time"])),
            "run_seconds": time.monotonic() - self.started,
            **self.identity,
            "environments": [environment.name for environment in self.dataset.environments],
            "hparams": self.hparams,
            "args": dataclasses.asdict(self.arguments),
        }
        if hasattr(self.algorithm, "on_validation"):
            self.algorithm.on_validation(step, evaluated["validation_loss"])
        name = records.PROGRESS if self.yields_one_model else records.RESULTS
        records.append(self.folder / name, record)
        if self.arguments.save_model_every_checkpoint:
            self._save(f"model_step{step}.pkl")
        return record

    def _evaluate(self) -> dict[str, float]:
        return evaluate(
            self.algorithm,
            self.dataset.environments,
            self.splits,
            self.arguments.test_envs,
            self.device,
            self.progress.evaluation,
        )

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

    def _print_header(self) -> None:
        print(f"{self.arguments.algorithm} on {self.dataset.name}, test environments {self.arguments.test_envs}")
        for note in self.dataset.notes:
            print(f"  {note}")
        for title, table in (
            ("runs on", {**{k: v for k, v in self.identity.items() if k != "versions"}, **self.identity["versions"]}),
            ("args", dataclasses.asdict(self.arguments)),
            ("hparams", self.hparams),
        ):
            print(f"{title}:")
            for name, value in table.items():
                print(f"  {name}: {value}")
        batch = self.hparams["batch_size"]
        print(f"batch: {batch} per environment, {batch * len(self.training)} a step", flush=True)


def make_algorithm(arguments: RunArguments, dataset: Dataset, hparams: dict[str, Any]) -> Any:
    """The algorithm of a run with its initial weights."""
    num_domains = len(dataset.environments) - len(arguments.test_envs)
    try:
        cls = get_algorithm_class(arguments.algorithm)
        return cls(dataset.input_shape, dataset.num_classes, num_domains, hparams)
    except NotImplementedError as error:  # how DomainBed's networks say it
        raise InputError(
            f"{arguments.algorithm} has no network for the inputs {dataset.input_shape} of {dataset.name}"
        ) from error


def seed_everything(seed: int) -> None:
    """Starts the global generators, which initial weights and dropout draw from, as DomainBed does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
