"""How long a run will take, from a few of its steps."""

from __future__ import annotations

import time

from dg_batchformer.data.batches import EnvironmentSampler
from dg_batchformer.data.environments import Dataset
from dg_batchformer.data.splits import split_environments
from dg_batchformer.registry import get_algorithm_class
from dg_batchformer.training.arguments import RunArguments, check
from dg_batchformer.training.evaluate import BATCH_SIZE, correct_and_loss

STEPS = 3


def probe_seconds(arguments: RunArguments, dataset: Dataset, threads: int) -> float:
    """Expected seconds of a run with `threads` CPU threads, from three updates and one evaluated batch.

    A first update, which warms up, is not counted; nothing is written.
    """
    import torch

    torch.set_num_threads(threads)
    hparams = check(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    splits = split_environments(dataset.sizes, arguments.holdout_fraction, arguments.trial_seed)
    training = [i for i in range(len(splits)) if i not in arguments.test_envs]
    make = get_algorithm_class(arguments.algorithm)
    algorithm = make(dataset.input_shape, dataset.num_classes, len(training), hparams).to(device)
    samplers = [
        EnvironmentSampler(
            dataset.environments[i],
            i,
            splits[i].inside,
            hparams["batch_size"],
            0,
            balanced=False,
            augment=hparams["data_augmentation"],
        )
        for i in training
    ]
    started = time.monotonic()
    for step in range(STEPS + 1):
        if step == 1:
            started = time.monotonic()
        algorithm.update([(x.to(device), y.to(device)) for x, y in map(next, samplers)])
    per_step = (time.monotonic() - started) / STEPS
    algorithm.eval()
    chunk = splits[0].inside[:BATCH_SIZE]
    started = time.monotonic()
    correct_and_loss(algorithm, dataset.environments[0], chunk, device)
    per_image = (time.monotonic() - started) / len(chunk)
    steps = arguments.steps or dataset.steps
    evaluations = 1 + steps // (arguments.checkpoint_freq or dataset.checkpoint_freq)
    return steps * per_step + evaluations * sum(dataset.sizes) * per_image
