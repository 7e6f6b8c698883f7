"""What a run trains with: its data on their device, its splits and its algorithm with initial weights."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dg_batchformer import machine
from dg_batchformer.data.batches import Minibatches, Split, Training, load
from dg_batchformer.data.benchmarks import load_dataset
from dg_batchformer.data.environments import Dataset
from dg_batchformer.data.resident import Resident, on_gpu, resident_images
from dg_batchformer.errors import InputError
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.run import Run
from dg_batchformer.training.compute import Compute
from dg_batchformer.training.features import with_features


def load_data(
    arguments: RunArguments, threads: int | None = None, shared: tuple[Resident | None] | None = None
) -> Dataset:
    """The dataset of a run, on the GPU if there is one; `shared` are the images that several processes have there."""
    dataset = load_dataset(**arguments.data._asdict(), threads=threads)
    if machine.device() == "cuda":
        return on_gpu(dataset, *(shared or (resident_images(dataset, "cuda"),)))
    return dataclasses.replace(dataset, resident=shared[0]) if shared else dataset


@dataclass(frozen=True)
class Setup:
    """All that a run needs before its first step."""

    run: Run
    dataset: Dataset
    splits: list[Split]
    compute: Compute
    algorithm: Any

    @classmethod
    def from_run(cls, run: Run, dataset: Dataset | None = None) -> Setup:
        """Sets a run up, with its protocol's transforms or the features of its frozen backbone.

        `dataset` spares loading it again. The global generators start from the run's seed, as in DomainBed. InputError
        where the algorithm does not keep the run's protocol.
        """
        arguments = run.arguments
        dataset = with_features(run.protocol.prepared(dataset or load_data(arguments)), run.hparams)
        splits = run.protocol.splits(
            dataset.sizes, arguments.holdout_fraction, arguments.trial_seed, arguments.test_envs
        )
        compute = Compute.from_run(run)
        seed_everything(arguments.seed)
        return cls(run, dataset, splits, compute, compute.place(make_algorithm(run, dataset)))

    @property
    def shape(self) -> dict[str, Any]:
        """What an algorithm is constructed for, by DomainBed's names."""
        return {
            "input_shape": self.dataset.input_shape,
            "num_classes": self.dataset.num_classes,
            "num_domains": len(self.run.training_envs),
        }

    def minibatches(self, first: int = 0) -> Iterator[Minibatches]:
        """The endless minibatches from step `first` on, which follow from the seed and the step alone."""
        hparams = self.run.hparams
        training = Training(
            self.dataset,
            self.splits,
            self.run.training_envs,
            hparams["batch_size"],
            self.run.arguments.seed,
            balanced=hparams["class_balanced"],
            augment=hparams["data_augmentation"],
        )
        steps = self.run.protocol.steps(training, self.run.arguments.algorithm, hparams)
        return load(self.dataset, itertools.islice(steps, first, None), self.compute.device)


def make_algorithm(run: Run, dataset: Dataset) -> Any:
    """The algorithm of a run with its initial weights; InputError where it does not keep the run's protocol."""
    name = run.arguments.algorithm
    try:
        algorithm = run.algorithm(dataset.input_shape, dataset.num_classes, len(run.training_envs), run.hparams)
    except NotImplementedError as error:  # how DomainBed's networks say it
        raise InputError(f"{name} has no network for the inputs {dataset.input_shape} of {dataset.name}") from error
    run.protocol.check(name, algorithm)
    return algorithm


def seed_everything(seed: int) -> None:
    """Starts the global generators, which initial weights and dropout draw from, as DomainBed does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
