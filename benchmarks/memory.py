"""What it gains on a CPU that a process keeps freed memory (`machine.keep_freed_memory`): seconds and peak memory.

    python benchmarks/memory.py

Features of a frozen backbone (batches of 32, and of 64 as before on the side without it), evaluation, training steps,
and augmentation, each on and off in a process of its own, turn by turn, on random images and weights. Needs timm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from common import Side, answer, header, ratios, spread
from torch import Tensor

from dg_batchformer import default_hparams, get_algorithm_class, machine
from dg_batchformer.backbones import make_backbone
from dg_batchformer.data import augment
from dg_batchformer.data.environments import ImageEnvironment

LITE, RESNET = "timm:tf_efficientnet_lite0", "resnet18"
WORK = {
    "features of 64 images, EfficientNet-Lite0": (LITE, 224, "features"),
    "features of 64 images, ResNet-50": ("resnet50", 224, "features"),
    "evaluation of 64 images, ResNet-18": (RESNET, 224, "features"),
    "a step of 48 images, ResNet-18": (RESNET, 224, "ERM"),
    "the same with BatchFormer": (RESNET, 224, "ERM_BatchFormer"),
    "a step of 96 images at 128 px, EfficientNet-Lite0": (LITE, 128, "ERM"),
    "a step of 192 digits, ConvNet": (None, 16, "ERM"),
    "augmentation of 96 images": (None, 224, "augmentation"),
}


def work_of(name: str, *, keeps: bool) -> Callable[[], object]:
    """One unit of a work."""
    backbone, size, kind = WORK[name]
    generator = torch.Generator().manual_seed(0)
    if kind == "augmentation":
        images = torch.randint(0, 255, (96, 256, 256, 3), dtype=torch.uint8, generator=generator)
        pool = ThreadPoolExecutor(machine.available_cores())
        environment = ImageEnvironment("a", images, torch.full((96, 2), 256), torch.zeros(96), pool)
        draws = torch.rand(96, augment.DRAWS, generator=generator)
        return lambda: environment.inputs(torch.arange(96), draws)
    hparams = {**default_hparams("ERM_BatchFormer", "PACS" if backbone else "RotatedDigits"), "weights": None}
    hparams["backbone"] = backbone
    if kind == "features":
        network = make_backbone((3, size, size), hparams).to(memory_format=torch.channels_last).eval()
        batches = torch.randn(64, 3, size, size, generator=generator).split(32 if keeps else 64)
        return torch.inference_mode()(lambda: [network(one) for one in batches])
    n, shape = {RESNET: (16, (3, size, size)), LITE: (32, (3, size, size)), None: (64, (1, size, size))}[backbone]
    algorithm = get_algorithm_class(kind)(shape, 10, 3, hparams).to(memory_format=torch.channels_last)
    minibatches: list[tuple[Tensor, Tensor]] = [
        (torch.randn(n, *shape, generator=generator), torch.randint(0, 10, (n,), generator=generator)) for _ in range(3)
    ]
    return lambda: algorithm.update(minibatches)


def serve(name: str, *, keeps: bool, units: int) -> None:
    """A side: seconds of a unit of a work."""
    if keeps:
        machine.keep_freed_memory()
    unit = work_of(name, keeps=keeps)
    unit()

    def turn() -> float:
        started = time.monotonic()
        for _ in range(units):
            unit()
        return (time.monotonic() - started) / units

    answer(turn)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--units", type=int, default=3)
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        return serve(args.side[0], keeps=args.side[1] == "on", units=args.units)
    print(header(args), flush=True)
    print("| | off, s | on, s | off to on | peak memory, on to off |\n|---|---|---|---|---|", flush=True)
    for name in WORK:
        sides = [Side([__file__, "--side", name, which, "--units", args.units]) for which in ("off", "on")]
        for _ in range(args.turns + 1):
            for side in sides:
                side.turn()
        for side in sides:
            side.end()
        off, on = (side.rates[1:] for side in sides)
        memory = sides[1].mib / sides[0].mib
        print(f"| {name} | {spread(off)} | {spread(on)} | {spread(ratios(off, on))} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
