"""Images per second of loading and augmentation: ours against DomainBed's own loaders, on the same cores.

    python benchmarks/loading.py --data_dir DATA --domainbed DomainBed

`DATA` has PACS in DomainBed's folders, `DomainBed` is a checkout (or the environment variable DOMAINBED). Both sides
load minibatches of three training environments. They take turns, so that other work on the machine slows both, and
DomainBed's worker processes are stopped during our turns. Their number is that of its datasets, or `--workers` per
environment. The cache is built before, and its time is printed.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import environments, header, ratios, spread

from dg_batchformer.data import load_dataset
from dg_batchformer.data.batches import Training, load, with_replacement
from dg_batchformer.data.folders import FOLDER_PREFIX
from dg_batchformer.data.splits import split_environments

TEST_ENV = 3


def ours(args: argparse.Namespace) -> Iterator[Any]:
    """Our minibatches, on the CPU."""
    dataset = load_dataset(args.dataset, args.data_dir, image_cache=args.image_cache)
    splits = split_environments(dataset.sizes, 0.2, 0)
    trained = [i for i in range(len(splits)) if i != TEST_ENV]
    training = Training(dataset, splits, trained, args.batch_size, seed=0)
    return load(dataset, with_replacement(training), "cpu")


def theirs(args: argparse.Namespace) -> Iterator[Any]:
    """DomainBed's minibatches, from its datasets, splits and loaders as its training script makes them."""
    with tempfile.TemporaryDirectory() as folder:
        sys.path[:0] = environments(args.domainbed, Path(folder))["DomainBed"]["PYTHONPATH"].split(os.pathsep)
        importlib.import_module("domainbed.datasets")
    datasets, misc, loaders = (
        importlib.import_module(f"domainbed.{name}") for name in ("datasets", "lib.misc", "lib.fast_data_loader")
    )
    hparams = {"data_augmentation": True}
    if args.dataset.startswith(FOLDER_PREFIX):
        root = args.dataset.removeprefix(FOLDER_PREFIX)
        dataset = datasets.MultipleEnvironmentImageFolder(root, [TEST_ENV], True, hparams)
    else:
        dataset = getattr(datasets, args.dataset)(args.data_dir, [TEST_ENV], hparams)
    workers = dataset.N_WORKERS if args.workers is None else args.workers
    splits = [misc.split_dataset(env, int(0.2 * len(env)), misc.seed_hash(0, i))[1] for i, env in enumerate(dataset)]
    return zip(
        *(
            loaders.InfiniteDataLoader(split, None, args.batch_size, workers)
            for i, split in enumerate(splits)
            if i != TEST_ENV
        ),
        strict=True,
    )


def images_per_second(steps: Iterator[Any], n: int, *, in_workers: bool) -> float:
    """Rate over n steps."""
    stop_workers(goes_on=in_workers)
    started = time.monotonic()
    images = sum(len(x) for _ in range(n) for x, _ in next(steps))
    return images / (time.monotonic() - started)


def stop_workers(*, goes_on: bool = False) -> None:
    """Stops DomainBed's worker processes, or lets them go on."""
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGCONT if goes_on else signal.SIGSTOP)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the minibatches and turns."""
    parser.add_argument("--domainbed", default=os.environ.get("DOMAINBED"))
    parser.add_argument("--batch_size", type=int, default=32, help="per environment (default 32)")
    parser.add_argument("--workers", type=int, help="DomainBed's worker processes per environment (default: its own)")
    parser.add_argument("--steps", type=int, default=20, help="steps per turn (default 20)")
    parser.add_argument("--turns", type=int, default=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_flags(parser)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--dataset", default="PACS", help="of four environments (default PACS)")
    parser.add_argument("--image_cache", help="decoded or encoded (default: by size)")
    args = parser.parse_args()
    print(header(args), flush=True)
    started = time.monotonic()
    sides = {"ours": ours(args), "DomainBed": theirs(args)}
    print(f"ready after {time.monotonic() - started:.1f} s, the cache included")
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(args.turns + 1):
        for name, steps in sides.items():
            rate = images_per_second(steps, args.steps, in_workers=name == "DomainBed")
            if turn:  # the first is a warm-up
                rates[name].append(rate)
    for name, values in rates.items():
        print(f"{name:10} {spread(values, 0)} images/s")
    print(f"ratio      {spread(ratios(rates['ours'], rates['DomainBed']))} of {args.turns} turns")


if __name__ == "__main__":
    main()
