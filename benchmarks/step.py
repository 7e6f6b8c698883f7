"""Seconds of an update with and without BatchFormer, on synthetic minibatches on the device.

    python benchmarks/step.py

Needs only the package. Each algorithm and its variant take turns on the same three minibatches with the same network of
random weights. Without a GPU the network and its images are small, so BatchFormer has a larger share than in a real
run; `--backbone`, `--image_size` and `--batch_size` select others.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import BACKBONES, ON_GPU, clock, header, ratios, spread

from dg_batchformer import default_hparams, get_algorithm_class, machine
from dg_batchformer.runs.arguments import PRECISIONS
from dg_batchformer.training.compute import Compute

BASES = ("ERM", "CORAL", "IRM", "VREx", "MixStyle", "SWAD")
DOMAINS, CLASSES = 3, 7


def make(name: str, compute: Compute, args: argparse.Namespace) -> Any:
    """An algorithm in training mode, on the device as in a run."""
    own = {"backbone": args.backbone, "weights": None, "batch_size": args.batch_size}
    hparams = {**default_hparams(name, "PACS"), **own}
    torch.manual_seed(0)
    shape = (3, args.image_size, args.image_size)
    return compute.place(get_algorithm_class(name)(shape, CLASSES, DOMAINS, hparams)).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--algorithms", nargs="+", default=BASES, help=f"default: {' '.join(BASES)}")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES[ON_GPU])
    parser.add_argument("--image_size", type=int, default=224 if ON_GPU else 112)
    parser.add_argument("--batch_size", type=int, default=32 if ON_GPU else 8, help="per environment")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0])
    parser.add_argument("--steps", type=int, default=20 if ON_GPU else 2, help="a turn")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    print(header(args), flush=True)
    compute = Compute(machine.device(), args.precision)
    generator = torch.Generator().manual_seed(0)
    size = (args.batch_size, 3, args.image_size, args.image_size)
    minibatches = [
        (torch.randn(size, generator=generator), torch.randint(CLASSES, size[:1], generator=generator))
        for _ in range(DOMAINS)
    ]
    minibatches = [(x.to(compute.device), y.to(compute.device)) for x, y in minibatches]
    print(f"{'':10} {'s/update':>9} {'with BatchFormer':>17}  ratio")
    for base in args.algorithms:
        sides = [make(name, compute, args) for name in (base, f"{base}_BatchFormer")]
        took: list[list[float]] = [[], []]
        for turn in range(args.turns + 1):
            for side, algorithm in enumerate(sides):
                started = clock()
                for _ in range(args.steps):
                    with compute.autocast():
                        algorithm.update(minibatches)
                if turn:  # the first is a warm-up
                    took[side].append((clock() - started) / args.steps)
        plain, with_batchformer = (sorted(values)[len(values) // 2] for values in took)
        print(f"{base:10} {plain:9.4f} {with_batchformer:17.4f}  {spread(ratios(took[1], took[0]))}", flush=True)


if __name__ == "__main__":
    main()
