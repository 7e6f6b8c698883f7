"""What a run is made of: its data, its minibatches, its length, its algorithm."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dg_batchformer import machine
from dg_batchformer.data.batches import Step, Training
from dg_batchformer.data.benchmarks import find_benchmark, load_dataset, path_free
from dg_batchformer.data.environments import Dataset
from dg_batchformer.data.resident import Resident, on_gpu, resident_images
from dg_batchformer.data.splits import Split
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import weights_identity
from dg_batchformer.registry import get_algorithm_class
from dg_batchformer.runs.arguments import NOT_IN_ID, RunArguments, data_arguments
from dg_batchformer.runs.protocols import find_protocol
from dg_batchformer.training.features import with_features

COURSE_IS_FREE_OF = ("dataset", "hparams", "fixed_hparams", "steps", "checkpoint_freq", *NOT_IN_ID)
"""Arguments that stand in a run's identity in another way, or not at all."""


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


def identity(arguments: RunArguments, hparams: dict[str, Any], dataset: Dataset) -> str:
    """Hash of what a run's course depends on: its arguments but for paths, its hyper-parameters and its data."""
    what = {name: value for name, value in dataclasses.asdict(arguments).items() if name not in COURSE_IS_FREE_OF}
    weights = {"weights": weights_identity(hparams["weights"])} if "weights" in hparams else {}
    data = [path_free(arguments.dataset), dataset.sizes, dataset.fingerprint]
    text = json.dumps([what, {**hparams, **weights}, length(arguments), data], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def training_steps(
    arguments: RunArguments, hparams: dict[str, Any], dataset: Dataset, splits: list[Split]
) -> Iterator[Step]:
    """The samples of a run's endless steps."""
    training = Training(
        dataset,
        splits,
        [i for i in range(len(splits)) if i not in arguments.test_envs],
        hparams["batch_size"],
        arguments.seed,
        balanced=hparams["class_balanced"],
        augment=hparams["data_augmentation"],
    )
    return find_protocol(arguments.protocol).steps(training, arguments.algorithm, hparams)


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
