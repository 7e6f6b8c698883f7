"""Steps per second of training from the cache, compared with the same updates on one minibatch on the device.

    python benchmarks/bound.py --data_dir DATA

`DATA` has PACS in DomainBed's folders. The second is the upper bound: training without the time for loading,
augmentation and copies. Both update one algorithm, in turns. The aim on a GPU is at least 0.9 of the bound; without a
GPU, loading and updates share the cores, and the defaults are small.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import Any

import torch
from common import BACKBONES, ON_GPU, clock, header, ratios, spread

from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import PRECISIONS, RunArguments
from dg_batchformer.training.compute import Compute
from dg_batchformer.training.setup import Setup


def steps_per_second(algorithm: Any, steps: Iterator[Any], n: int, compute: Compute) -> float:
    """Rate over n updates, after n uncounted ones that use up the loaded minibatches."""
    for step in range(2 * n):
        if step == n:
            started = clock()
        minibatches = next(steps)
        with compute.autocast():
            algorithm.update(minibatches)
    return n / (clock() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--algorithm", default="ERM")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES[ON_GPU])
    parser.add_argument("--batch_size", type=int, default=32 if ON_GPU else 4, help="per environment")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0])
    parser.add_argument("--steps", type=int, default=50 if ON_GPU else 3, help="a turn")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    print(header(args), flush=True)
    hparams = json.dumps({"backbone": args.backbone, "weights": None, "batch_size": args.batch_size})
    arguments = RunArguments("PACS", args.algorithm, [3], args.data_dir, hparams, precision=args.precision)
    setup = Setup.from_run(resolve(arguments))
    algorithm, compute, loaded = setup.algorithm.train(), setup.compute, setup.minibatches()
    resident = [(torch.randn_like(x), y) for x, y in next(loaded)]
    sides = {"from the cache": loaded, "bound": itertools.repeat(resident)}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.turns):
        for name, steps in sides.items():
            rates[name].append(steps_per_second(algorithm, steps, args.steps, compute))
    for name, values in rates.items():
        print(f"{name:15} {spread(values)} steps/s")
    print(f"{'ratio':15} {spread(ratios(rates['from the cache'], rates['bound']))}")


if __name__ == "__main__":
    main()
