"""One run, from its arguments to its records."""

from __future__ import annotations

import dataclasses
import math
import random
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dg_batchformer import machine
from dg_batchformer.data.batches import Minibatches, Training, load
from dg_batchformer.data.benchmarks import find_benchmark, load_dataset
from dg_batchformer.data.environments import Dataset
from dg_batchformer.data.resident import Resident, on_gpu, resident_images
from dg_batchformer.data.splits import Split
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash
from dg_batchformer.networks import describe
from dg_batchformer.registry import get_algorithm_class
from dg_batchformer.training import records
from dg_batchformer.training.arguments import RunArguments, check, data_arguments
from dg_batchformer.training.checkpoint import save_model
from dg_batchformer.training.compute import Compute, Values
from dg_batchformer.training.evaluate import evaluate
from dg_batchformer.training.features import with_features
from dg_batchformer.training.progress import Progress
from dg_batchformer.training.protocols import find_protocol
from dg_batchformer.training.schedule import Schedule


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
    prepared = _Run(arguments, hparams, prepared_data(arguments, hparams, dataset))
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


def load_data(
    arguments: RunArguments, threads: int | None = None, shared: tuple[Resident | None] | None = None
) -> Dataset:
    """The dataset of a run, on the GPU if there is one; `shared` are the images that several processes have there."""
    dataset = load_dataset(**data_arguments(arguments), threads=threads)
    if machine.device() == "cuda":
        return on_gpu(dataset, *(shared or (resident_images(dataset, "cuda"),)))
    return dataclasses.replace(dataset, resident=shared[0]) if shared else dataset


def prepared_data(arguments: RunArguments, hparams: dict[str, Any], dataset: Dataset | None = None) -> Dataset:
    """The data of a run with its protocol's transforms, or the features of its frozen backbone."""
    dataset = find_protocol(arguments.protocol).prepared(dataset or load_data(arguments))
    return with_features(dataset, hparams)


def length(arguments: RunArguments) -> tuple[int, int]:
    """Steps of a run, and from one checkpoint to the next: its own, or its protocol's."""
    steps, checkpoint_freq = find_protocol(arguments.protocol).length(find_benchmark(arguments.dataset))
    return arguments.steps or steps, arguments.checkpoint_freq or checkpoint_freq


def training_minibatches(
    arguments: RunArguments, hparams: dict[str, Any], dataset: Dataset, splits: list[Split], device: str
) -> Iterator[Minibatches]:
    """The endless minibatches of a run."""
    training = Training(
        dataset,
        splits,
        [i for i in range(len(splits)) if i not in arguments.test_envs],
        hparams["batch_size"],
        arguments.seed,
        balanced=hparams["class_balanced"],
        augment=hparams["data_augmentation"],
    )
    steps = find_protocol(arguments.protocol).steps(training, arguments.algorithm, hparams)
    return load(dataset, steps, device)


class _Run:
    """The state of a run while it lasts."""

    def __init__(self, arguments: RunArguments, hparams: dict[str, Any], dataset: Dataset) -> None:
        self.arguments, self.hparams, self.dataset = arguments, hparams, dataset
        self.protocol = find_protocol(arguments.protocol)
        self.splits = self.protocol.splits(
            dataset.sizes, arguments.holdout_fraction, arguments.trial_seed, arguments.test_envs
        )
        self.folder = Path(arguments.output_dir)
        self.steps, self.checkpoint_freq = length(arguments)
        self.compute = Compute.of(arguments)
        self.started = time.monotonic()
        self.values = Values()
        self.last_values: dict[str, float] = {}
        self.segment_started, self.segment_images = time.monotonic(), 0
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
        self.validation: torch.Generator | None = None
        if hparams.get("val_augment"):
            self.validation = torch.Generator().manual_seed(seed_hash(arguments.seed, "validation"))
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
        """All steps, with the protocol's checkpoints and one after the last step."""
        self._print_header()
        self.segment_started = time.monotonic()
        minibatches = training_minibatches(self.arguments, self.hparams, self.dataset, self.splits, self.compute.device)
        for step in range(self.steps):
            self._update(step, next(minibatches))
            if self.protocol.is_checkpoint(step, self.checkpoint_freq) or step == self.steps - 1:
                record = self._checkpoint(step)
                self.progress.checkpoint(record, self.arguments.test_envs)
        if self.yields_one_model:
            self.algorithm.finish()
            final = {**record, **self._evaluate(), **self._finished()}
            records.append(self.folder / records.RESULTS, final)
            self.progress.checkpoint(final, self.arguments.test_envs)
        if not self.arguments.skip_model_save:
            self._save(records.MODEL)

    def _update(self, step: int, minibatches: Minibatches) -> None:
        with self.compute.autocast():
            self.values.add(step, self.algorithm.update(minibatches))
        if self.schedule:
            self.schedule.after(step)
        self.segment_images += sum(len(x) for x, _ in minibatches)
        if self.progress.due(step):
            self.progress.step(step, self._read()[-1])

    def _read(self) -> list[dict[str, float]]:
        """The values of the steps since the last checkpoint, all of them finite."""
        rows = self.values.read()
        for step, row in zip(self.values.steps, rows, strict=True):
            self._stop_if_diverged(step, row)
            self.last_values = row
        return rows

    def _checkpoint(self, step: int) -> records.Record:
        """Evaluates the current weights and writes the record."""
        means = self._means()
        # As in DomainBed, over all environments, the test environments too.
        steps_per_epoch = min(len(split.inside) for split in self.splits) / self.hparams["batch_size"]
        evaluated = self._evaluate()
        self._stop_if_diverged(step, {"validation_loss": evaluated["validation_loss"]})
        record = {
            "step": step,
            "epoch": step / steps_per_epoch,
            **means,
            **evaluated,
            "mem_gb": torch.cuda.max_memory_allocated() / 2**30 if self.compute.device == "cuda" else 0.0,
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
        self.segment_started, self.segment_images = time.monotonic(), 0
        return record

    def _means(self) -> dict[str, float]:
        """The mean of each value since the last checkpoint, the seconds of a step, and images a second."""
        rows = self._read()
        # Only now has the device done all that it was given.
        seconds = time.monotonic() - self.segment_started
        names = dict.fromkeys(name for row in rows for name in row)
        means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
        self.values.clear()
        return {**means, "step_time": seconds / len(rows), "images_per_second": self.segment_images / seconds}

    def _evaluate(self) -> dict[str, float]:
        return evaluate(
            self.algorithm,
            self.dataset,
            self.splits,
            self.arguments.test_envs,
            self.compute,
            self.progress.evaluation,
            self.validation,
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
        print(f"batch: {batch} per environment, {batch * self.shape['num_domains']} a step", flush=True)


def make_algorithm(arguments: RunArguments, dataset: Dataset, hparams: dict[str, Any]) -> Any:
    """The algorithm of a run with its initial weights; InputError where it does not keep the run's protocol."""
    num_domains = len(dataset.environments) - len(arguments.test_envs)
    try:
        cls = get_algorithm_class(arguments.algorithm)
        algorithm = cls(dataset.input_shape, dataset.num_classes, num_domains, hparams)
    except NotImplementedError as error:  # how DomainBed's networks say it
        raise InputError(
            f"{arguments.algorithm} has no network for the inputs {dataset.input_shape} of {dataset.name}"
        ) from error
    find_protocol(arguments.protocol).check(arguments.algorithm, algorithm)
    return algorithm


def seed_everything(seed: int) -> None:
    """Starts the global generators, which initial weights and dropout draw from, as DomainBed does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
