"""What a partly frozen backbone gains: steps per second on kept maps and with the whole network, turn by turn.

    python benchmarks/parts.py

EfficientNet-Lite0 until `blocks.4` at 128 px, and ResNet-18 until `layer2` at 224 px, random images and weights, 32 per
environment, three environments; both sides from inputs in memory. Needs timm.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from common import header, ratios, spread
from torch import Tensor

from dg_batchformer import default_hparams, get_algorithm_class, machine
from dg_batchformer.backbones import make_backbone

CASES = (("timm:tf_efficientnet_lite0", "blocks.4", 128), ("resnet18", "layer2", 224))
ENVIRONMENTS, BATCH, CLASSES = 3, 32, 7


def sides(algorithm: str, backbone: str, path: str, size: int) -> dict[str, tuple[Any, list[tuple[Tensor, Tensor]]]]:
    """The algorithm and minibatches of each side."""
    hparams = {**default_hparams(algorithm, "PACS"), "backbone": backbone, "weights": None, "image_size": size}
    generator = torch.Generator().manual_seed(0)
    cls = get_algorithm_class(algorithm)
    images = [torch.randn(BATCH, 3, size, size, generator=generator) for _ in range(ENVIRONMENTS)]
    labels = [torch.randint(0, CLASSES, (BATCH,), generator=generator) for _ in range(ENVIRONMENTS)]
    with torch.no_grad():
        frozen = make_backbone((3, size, size), hparams).cut(path).eval()
        maps = [frozen(x) for x in images]
    whole = cls((3, size, size), CLASSES, ENVIRONMENTS, hparams)
    rest = cls(tuple(maps[0].shape[1:]), CLASSES, ENVIRONMENTS, {**hparams, "freeze_until": path})
    made = {"whole": (whole, images), "rest": (rest, maps)}
    return {
        name: (own.to(memory_format=torch.channels_last), list(zip(inputs, labels, strict=True)))
        for name, (own, inputs) in made.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    print(header(args), flush=True)
    machine.keep_freed_memory()
    for backbone, path, size in CASES:
        for algorithm in ("ERM", "ERM_BatchFormer"):
            seconds: dict[str, list[float]] = {"whole": [], "rest": []}
            own = sides(algorithm, backbone, path, size)
            for turn in range(args.turns + 1):
                for name, (model, minibatches) in own.items():
                    started = time.monotonic()
                    model.update(minibatches)
                    if turn:
                        seconds[name].append(time.monotonic() - started)
            print(
                f"{algorithm}, {backbone} until {path}, {size} px: whole {spread(seconds['whole'])} s, "
                f"rest {spread(seconds['rest'])} s, ratio {spread(ratios(seconds['whole'], seconds['rest']))}",
                flush=True,
            )


if __name__ == "__main__":
    main()
