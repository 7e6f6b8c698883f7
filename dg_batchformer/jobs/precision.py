"""The faster precision on this machine, for `sweep launch --precision auto`."""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dg_batchformer import machine
from dg_batchformer.errors import InputError
from dg_batchformer.jobs.folder import find
from dg_batchformer.jobs.launchers import Launcher
from dg_batchformer.jobs.plan import Job, Sweep, plan
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import AUTO, PRECISIONS

if TYPE_CHECKING:
    from dg_batchformer.data.batches import Minibatches
    from dg_batchformer.training.setup import Setup

TURNS = 3
GAIN = 1.05
"""bf16 is chosen if it is at least this much faster: it rounds more."""


def with_precision(sweep: Sweep, launcher: Launcher) -> Sweep:
    """The sweep with the precision of the runs in its folder, else with the faster one on its first run.

    A sweep with a given precision is returned as it is. Prints what it chose; writes nothing.
    """
    if sweep.common.precision != AUTO:
        return sweep
    folder = Path(sweep.common.output_dir)
    earlier = {job.arguments.precision for job in find(folder)} if folder.is_dir() else set()
    if earlier:
        chosen, why = earlier.pop(), f"as the runs in {folder}"
    else:
        full = _with(sweep, PRECISIONS[0])
        jobs = plan(full)
        seconds = step_seconds(jobs[0], machine.threads_of_each(launcher.check(jobs) or 1))
        fp32, bf16 = (seconds.get(precision) for precision in PRECISIONS)
        chosen = "bf16" if fp32 and bf16 and fp32 >= GAIN * bf16 else "fp32"
        why = ", ".join(f"{name} {value:.3g} s a step" for name, value in seconds.items())
    print(f"precision {chosen}: {why}", flush=True)
    return _with(sweep, chosen)


def _with(sweep: Sweep, precision: str) -> Sweep:
    return dataclasses.replace(sweep, common=dataclasses.replace(sweep.common, precision=precision))


def whole_step(setup: Setup, minibatches: Minibatches) -> None:
    """An update, until its work is done on a GPU too."""
    from dg_batchformer.contracts import update

    with setup.compute.autocast():
        values = update(setup.algorithm, minibatches)
    [float(value) for value in values.values()]  # waits for a GPU


def step_seconds(job: Job, threads: int) -> dict[str, float]:
    """The median seconds of a step of a run in each precision that the machine supports, turn by turn."""
    import torch

    from dg_batchformer.training.setup import Setup, load_data

    torch.set_num_threads(threads)
    dataset = load_data(job.arguments)
    sides = {}
    for precision in PRECISIONS:
        try:
            setup = Setup.from_run(resolve(dataclasses.replace(job.arguments, precision=precision)), dataset)
        except InputError:
            if precision == PRECISIONS[0]:
                raise
            continue  # a GPU without bf16
        sides[precision] = setup, setup.minibatches(), list[float]()
    for turn in range(TURNS + 1):
        for setup, minibatches, found in sides.values():
            batch = next(minibatches)
            started = time.monotonic()
            whole_step(setup, batch)
            if turn:
                found.append(time.monotonic() - started)
    return {precision: statistics.median(found) for precision, (_, _, found) in sides.items()}
