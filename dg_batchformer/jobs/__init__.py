"""A launch: announces the runs, checks them, asks the user, and starts a launcher."""

from __future__ import annotations

import collections
import gc
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dg_batchformer import machine
from dg_batchformer.errors import InputError, sentence
from dg_batchformer.jobs.folder import check_folder, check_results, compare_data, tidy, versions_note, write
from dg_batchformer.jobs.launchers import Dummy, Launcher
from dg_batchformer.jobs.plan import Job, Sweep, plan
from dg_batchformer.jobs.precision import whole_step, with_precision
from dg_batchformer.jobs.status import duration, finished_runs, look, mean_seconds, summary
from dg_batchformer.jobs.workers import warm_up
from dg_batchformer.runs import resolve
from dg_batchformer.runs.presets import preset_note

if TYPE_CHECKING:
    from dg_batchformer.training.setup import Setup

PROBE_STEPS = 3


def launch(sweep: Sweep, launcher: Launcher, *, ask: bool, dry_run: bool = False) -> int:
    """Runs the unfinished runs of a sweep after an estimate of the time; returns 0 if all are done then, else 1.

    With `dry_run` it prints the commands and writes nothing.
    """
    output_dir = Path(sweep.common.output_dir)
    sweep = with_precision(sweep, launcher)
    jobs = plan(sweep)
    used = {name for job in jobs for name in job.arguments.given_hparams()}
    for name in sweep.common.given_hparams().keys() - used:
        print(f"note: none of these algorithms has the hparam {name!r}")
    check_folder(jobs, output_dir)
    check_results(jobs)
    if sweep.common.preset:
        print(preset_note(sweep.common.preset))
    if note := versions_note(output_dir):
        print(f"note: {note}")
    to_do = [job for job in jobs if not job.folder.is_done]
    print(summary(look(jobs)))
    if not to_do:
        tidy(jobs)
        return 0
    if dry_run or isinstance(launcher, Dummy):
        launcher.preview(to_do)
        return 0
    n_at_once = launcher.check(to_do)
    announce(jobs, to_do, n_at_once)
    if ask and not confirmed():
        return 0
    tidy(jobs)
    write(to_do)
    launcher.run(to_do)
    if n_at_once is None:
        return 0
    print(summary(look(jobs)))
    if all(job.folder.is_done for job in to_do):
        return 0
    print(f"see: dg-batchformer sweep status --output_dir {output_dir}")
    return 1


def announce(jobs: Sequence[Job], to_do: Sequence[Job], n_at_once: int | None) -> None:
    """Checks data and algorithms of the runs to do, and prints the expected time.

    The estimate comes from the finished runs of a dataset, else from a few steps of its first run (NaN if they fail).
    """
    if n_at_once is None:
        collections.deque(checked(to_do), maxlen=0)
        print(f"about to submit {len(to_do)} runs")
        return
    warm_up()
    measured = mean_seconds(finished_runs(jobs))
    seconds = 0.0
    for own, setup in checked(to_do):
        name = own[0].arguments.dataset
        if name not in measured:
            print(f"{name}: timing a few steps", flush=True)
            try:
                measured[name] = probe_seconds(setup, machine.threads_of_each(n_at_once))
            except Exception as error:  # the error of that run must not stop the others
                print(f"note: {name} could not be timed: {sentence(error)}")
                measured[name] = math.nan
        seconds += len(own) * measured[name] / n_at_once
    if machine.device() == "cuda":
        import torch

        # Frees the memory of the trial steps for the runs.
        gc.collect()
        torch.cuda.empty_cache()
    print(f"about to run {len(to_do)} in {n_at_once} process(es), expected to take {duration(seconds)}")


def confirmed() -> bool:
    """Whether the user answers yes; InputError if there is no terminal."""
    try:
        return input("Are you sure? (y/n) ").strip().lower().startswith("y")
    except EOFError as error:
        raise InputError("no answer, so nothing was done: --skip_confirmation answers yes") from error


def checked(to_do: Sequence[Job]) -> Iterator[tuple[list[Job], Setup]]:
    """The runs of each dataset and the setup of the first one; writes nothing.

    Prints the notes of the dataset. InputError for data that have changed since the sweep began, and for algorithms
    that cannot be constructed.
    """
    from dg_batchformer.training.setup import Setup, load_data

    for name in dict.fromkeys(job.arguments.dataset for job in to_do):
        own = [job for job in to_do if job.arguments.dataset == name]
        dataset = load_data(own[0].arguments)
        compare_data(own[0].sweep_dir, name, dataset.fingerprint)
        for note in dataset.notes:
            print(f"{name}: {note}")
        one_each = {job.arguments.algorithm: job for job in reversed(own)}
        # The first run comes last, since its setup is timed.
        for job in one_each.values():
            setup = Setup.from_run(resolve(job.arguments), dataset)
        yield own, setup


def probe_seconds(setup: Setup, threads: int) -> float:
    """Expected seconds of a run with `threads` CPU threads, from three updates and one evaluated batch.

    The first update is a warm-up and does not count; nothing is written.
    """
    import torch

    from dg_batchformer.data.environments import Samples
    from dg_batchformer.training.compute import EVALUATION_BATCH, logits_of

    torch.set_num_threads(threads)
    batches = setup.minibatches()

    whole_step(setup, next(batches))
    started = time.monotonic()
    for _ in range(PROBE_STEPS):
        whole_step(setup, next(batches))
    per_step = (time.monotonic() - started) / PROBE_STEPS
    setup.algorithm.eval()
    chunk = setup.splits[0].inside[: EVALUATION_BATCH[setup.compute.device]]
    started = time.monotonic()
    float(logits_of(setup.algorithm, setup.dataset, Samples(0, chunk), setup.compute).sum())  # waits for a GPU
    per_image = (time.monotonic() - started) / len(chunk)
    n_evaluations = 1 + setup.run.steps // setup.run.checkpoint_freq
    return setup.run.steps * per_step + n_evaluations * sum(setup.dataset.sizes) * per_image
