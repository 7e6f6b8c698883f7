"""The setup of a run: its data or their features, its splits, and its algorithm with initial weights."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dg_batchformer import machine
from dg_batchformer.contracts import contract_of
from dg_batchformer.data import load_dataset
from dg_batchformer.data import splits as files_of_splits
from dg_batchformer.data.batches import Minibatches, Training, load
from dg_batchformer.data.environments import Dataset, Split
from dg_batchformer.data.imbalance import class_counts, long_tailed
from dg_batchformer.data.resident import Resident, on_gpu, resident_images
from dg_batchformer.data.splits import given_splits
from dg_batchformer.errors import InputError
from dg_batchformer.runs import Run
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.compute import Compute
from dg_batchformer.training.features import with_features
from dg_batchformer.training.retraining import check_stage


def load_data(
    arguments: RunArguments, threads: int | None = None, shared: tuple[Resident | None] | None = None
) -> Dataset:
    """The dataset of a run, on the GPU if there is one; `shared` are images there that several processes use."""
    dataset = load_dataset(**arguments.data._asdict(), threads=threads)
    if machine.device() == "cuda":
        return on_gpu(dataset, *(shared or (resident_images(dataset, "cuda"),)))
    return dataclasses.replace(dataset, resident=shared[0]) if shared else dataset


@dataclass(frozen=True)
class Setup:
    """Everything that a run needs before its first step."""

    run: Run
    dataset: Dataset
    splits: list[Split]
    compute: Compute
    algorithm: Any

    @classmethod
    def from_run(cls, run: Run, dataset: Dataset | None = None) -> Setup:
        """Sets up a run, with the transforms of its protocol or the features of its frozen backbone.

        A given `dataset` is not loaded again. The global generators start from the seed of the run, as in DomainBed.
        InputError if the algorithm violates the protocol.
        """
        arguments = run.arguments
        compute = Compute.from_run(run)
        dataset = with_features(run.protocol.prepared(dataset or load_data(arguments)), run.hparams)
        splits = run_splits(run, dataset)
        seed_everything(arguments.seed)
        algorithm = make_algorithm(run, dataset, splits)
        setup = cls(run, dataset, splits, compute, algorithm)
        if hasattr(algorithm, "set_class_counts"):
            algorithm.set_class_counts(torch.tensor(list(setup.class_counts.values())))
        compute.place(algorithm)
        return setup

    @property
    def class_counts(self) -> dict[str, list[int]]:
        """The training images of each class, by training environment."""
        environments, n_classes = self.dataset.environments, self.dataset.num_classes
        return {
            environments[i].name: class_counts(environments[i].labels[self.splits[i].inside], n_classes)
            for i in self.run.training_envs
        }

    def minibatches(self, first: int = 0, *, balanced: bool = False) -> Iterator[Minibatches]:
        """The endless minibatches from step `first` on; they depend on the seed and the step only.

        With `balanced` all classes have equal shares, as with hparam `class_balanced`.
        """
        hparams = self.run.hparams
        training = Training(
            self.dataset,
            self.splits,
            self.run.training_envs,
            hparams["batch_size"],
            self.run.arguments.seed,
            balanced=balanced or hparams["class_balanced"],
            augment=hparams["data_augmentation"],
        )
        steps = self.run.protocol.steps(training, self.run.arguments.algorithm, hparams)
        return load(self.dataset, itertools.islice(steps, first, None), self.compute.device)


def run_splits(run: Run, dataset: Dataset) -> list[Split]:
    """The split of each environment, that of a given file, the dataset's own, or the protocol's; with the long tail."""
    given = run.arguments
    if given.splits:
        splits = files_of_splits.read(Path(given.splits), dataset)
    elif dataset.splits:
        splits = given_splits(dataset.splits, given.test_envs)
    else:
        splits = run.protocol.splits(dataset.sizes, given.holdout_fraction, given.trial_seed, given.test_envs)
    if run.imbalance:
        return long_tailed(dataset, splits, run.training_envs, run.imbalance, given.trial_seed)
    return splits


def make_algorithm(run: Run, dataset: Dataset, splits: list[Split]) -> Any:
    """The algorithm of a run with its initial weights; InputError if it violates the protocol."""
    name = run.arguments.algorithm
    try:
        shapes = dataset.input_shape, dataset.num_classes, len(run.training_envs)
        labels = [dataset.environments[i].labels[splits[i].inside] for i in run.training_envs]
        algorithm = contract_of(run.algorithm).construct(run.algorithm, shapes, run.hparams, labels)
    except NotImplementedError as error:  # the error of DomainBed's networks
        raise InputError(f"{name} has no network for the inputs {dataset.input_shape} of {dataset.name}") from error
    run.protocol.check(name, algorithm)
    if run.arguments.stage:
        check_stage(name, algorithm)
    return algorithm


def seed_everything(seed: int) -> None:
    """Seeds the global generators, which initial weights and dropout use, as DomainBed does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
