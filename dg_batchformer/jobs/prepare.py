"""Whether the runs of a sweep can be made, and how long one will take, before any is launched."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Sequence

import torch

from dg_batchformer import machine
from dg_batchformer.data.batches import load
from dg_batchformer.data.environments import Dataset, Samples
from dg_batchformer.errors import InputError
from dg_batchformer.jobs.folder import compare_data
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.status import measured_seconds
from dg_batchformer.runs import failures
from dg_batchformer.runs.arguments import RunArguments, check
from dg_batchformer.runs.protocols import find_protocol
from dg_batchformer.training.compute import EVALUATION_BATCH, Compute
from dg_batchformer.training.evaluate import correct_and_loss
from dg_batchformer.training.parts import length, load_data, make_algorithm, prepared_data, training_steps

STEPS = 3


def expected_seconds(jobs: Sequence[Job], to_do: Sequence[Job], threads: int) -> float:
    """Checks data and algorithms of the runs to do; returns their expected seconds, one after another.

    Expected from the runs of a dataset that are done, else from a few steps of its first run to do (NaN if they fail).
    """
    measured = measured_seconds(jobs)
    total = 0.0
    for own, dataset in checked(to_do):
        name = own[0].dataset
        if name not in measured:
            print(f"{name}: timing a few steps", flush=True)
            try:
                measured[name] = probe_seconds(own[0], dataset, threads)
            except InputError:
                raise
            except Exception as error:  # which is that run's, and costs no other
                print(f"note: {name} could not be timed: {failures.sentence(error)}")
                measured[name] = math.nan
        total += len(own) * measured[name]
    if machine.device() == "cuda":
        # What was tried here is not kept from the runs.
        gc.collect()
        torch.cuda.empty_cache()
    return total


def check_runs(to_do: Sequence[Job]) -> None:
    """Checks data and algorithms of the runs to do."""
    for _ in checked(to_do):
        pass


def checked(to_do: Sequence[Job]) -> Iterator[tuple[list[RunArguments], Dataset]]:
    """The runs of each dataset, and it, when its notes are printed and both are checked; writes nothing.

    Data that have changed since the sweep began are an InputError, as are algorithms that cannot be constructed.
    """
    for name in dict.fromkeys(job.arguments.dataset for job in to_do):
        own = [job.arguments for job in to_do if job.arguments.dataset == name]
        dataset = load_data(own[0])
        compare_data(to_do[0].folder.parent, name, dataset.fingerprint)
        for note in dataset.notes:
            print(f"{name}: {note}")
        check_algorithms(own, dataset)
        yield own, dataset


def check_algorithms(runs: Sequence[RunArguments], dataset: Dataset) -> None:
    """Constructs each algorithm of a sweep once, so that one that cannot be is said before any run."""
    for arguments in {arguments.algorithm: arguments for arguments in runs}.values():
        hparams = check(arguments)
        make_algorithm(arguments, prepared_data(arguments, hparams, dataset), hparams)


def probe_seconds(arguments: RunArguments, dataset: Dataset, threads: int) -> float:
    """Expected seconds of a run with `threads` CPU threads, from three updates and one evaluated batch.

    A first update, which warms up, is not counted; nothing is written.
    """
    torch.set_num_threads(threads)
    hparams = check(arguments)
    dataset = prepared_data(arguments, hparams, dataset)
    compute = Compute.of(arguments)
    splits = find_protocol(arguments.protocol).splits(
        dataset.sizes, arguments.holdout_fraction, arguments.trial_seed, arguments.test_envs
    )
    algorithm = compute.place(make_algorithm(arguments, dataset, hparams))
    batches = load(dataset, training_steps(arguments, hparams, dataset, splits), compute.device)

    def update() -> None:
        minibatches = next(batches)
        with compute.autocast():
            values = algorithm.update(minibatches)
        [float(value) for value in values.values()]  # which waits for a GPU

    update()
    started = time.monotonic()
    for _ in range(STEPS):
        update()
    per_step = (time.monotonic() - started) / STEPS
    algorithm.eval()
    chunk = splits[0].inside[: EVALUATION_BATCH[compute.device]]
    started = time.monotonic()
    float(correct_and_loss(algorithm, dataset, Samples(0, chunk), compute)[1])
    per_image = (time.monotonic() - started) / len(chunk)
    steps, checkpoint_freq = length(arguments)
    return steps * per_step + (1 + steps // checkpoint_freq) * sum(dataset.sizes) * per_image
