"""Whether the runs of a sweep can be made, and how long one will take, before any is launched."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from dg_batchformer import machine
from dg_batchformer.data.batches import minibatches
from dg_batchformer.data.benchmarks import load_dataset
from dg_batchformer.data.environments import Dataset
from dg_batchformer.data.splits import split_environments
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.status import measured_seconds
from dg_batchformer.training.arguments import RunArguments, check
from dg_batchformer.training.evaluate import BATCH_SIZE, correct_and_loss
from dg_batchformer.training.features import with_features
from dg_batchformer.training.run import data_arguments, make_algorithm

STEPS = 3


def prepare(jobs: Sequence[Job], to_do: Sequence[Job], threads: int) -> float:
    """Checks data and algorithms of the runs to do; returns their expected seconds, one after another.

    Expected from the runs of a dataset that are done, else from a few steps of its first run to do.
    """
    measured = measured_seconds(jobs)
    total = 0.0
    for name in dict.fromkeys(job.arguments.dataset for job in to_do):
        own = [job.arguments for job in to_do if job.arguments.dataset == name]
        dataset = load_dataset(**data_arguments(own[0]))
        for note in dataset.notes:
            print(f"{name}: {note}")
        check_algorithms(own, dataset)
        if name not in measured:
            print(f"{name}: timing a few steps", flush=True)
            measured[name] = probe_seconds(own[0], dataset, threads)
        total += len(own) * measured[name]
    return total


def check_algorithms(runs: Sequence[RunArguments], dataset: Dataset) -> None:
    """Constructs each algorithm of a sweep once, so that one that cannot be is said before any run."""
    for arguments in {arguments.algorithm: arguments for arguments in runs}.values():
        hparams = check(arguments)
        make_algorithm(arguments, with_features(dataset, hparams), hparams)


def probe_seconds(arguments: RunArguments, dataset: Dataset, threads: int) -> float:
    """Expected seconds of a run with `threads` CPU threads, from three updates and one evaluated batch.

    A first update, which warms up, is not counted; nothing is written.
    """
    torch.set_num_threads(threads)
    hparams = check(arguments)
    dataset = with_features(dataset, hparams)
    device = machine.device()
    splits = split_environments(dataset.sizes, arguments.holdout_fraction, arguments.trial_seed)
    algorithm = make_algorithm(arguments, dataset, hparams).to(device)
    batches = minibatches(dataset, splits, arguments.test_envs, hparams, arguments.seed, device)
    algorithm.update(next(batches))
    started = time.monotonic()
    for _ in range(STEPS):
        algorithm.update(next(batches))
    per_step = (time.monotonic() - started) / STEPS
    algorithm.eval()
    chunk = splits[0].inside[:BATCH_SIZE]
    started = time.monotonic()
    correct_and_loss(algorithm, dataset.environments[0], chunk, device)
    per_image = (time.monotonic() - started) / len(chunk)
    steps = arguments.steps or dataset.steps
    evaluations = 1 + steps // (arguments.checkpoint_freq or dataset.checkpoint_freq)
    return steps * per_step + evaluations * sum(dataset.sizes) * per_image
