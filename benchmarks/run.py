"""Seconds of a whole short run on PACS, ours against DomainBed's own training script, and both sides' accuracies.

    python benchmarks/run.py --data_dir DATA --domainbed DomainBed

`DATA` has PACS in DomainBed's folders, `DomainBed` is a checkout (or the environment variable DOMAINBED) whose imports
are installed (`pip install 'dg-batchformer[fidelity]'`). Each seed is one turn of both sides, with the same splits,
network, initial backbone, updates and evaluations; seconds are those of the whole command with imports and evaluations.
Our cache is built before, and its time is printed. `--ours="--precision bf16"` gives our side more flags. Without a GPU
the run has few images and a small network, and its accuracies have no meaning; with one it has those of a real run.
Without `--weights FILE` (ImageNet's, from torchvision) both sides have the same random initial weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import BACKBONES, ON_GPU, environments, header, pacs, ratios, seconds, spread, torch_home

SIDES = {"ours": ["-m", "dg_batchformer", "train"], "DomainBed": ["-m", "domainbed.scripts.train"]}


def accuracy(folder: Path, test_env: int) -> float:
    """The accuracy on the test environment's in-split at the last checkpoint, in percent."""
    last = (folder / "results.jsonl").read_text().splitlines()[-1]
    return 100 * float(json.loads(last)[f"env{test_env}_in_acc"])


def mean_and_error(values: Sequence[float]) -> str:
    """Mean and, of several, its standard error."""
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--domainbed", default=os.environ.get("DOMAINBED"))
    parser.add_argument("--algorithm", default="ERM", help="an algorithm that both sides have (default ERM)")
    parser.add_argument("--test_env", type=int, default=3)
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES[ON_GPU])
    parser.add_argument("--weights", help="file of the backbone's weights (default: random ones)")
    parser.add_argument("--batch_size", type=int, default=32 if ON_GPU else 8, help="per environment")
    parser.add_argument("--steps", type=int, default=301 if ON_GPU else 6)
    parser.add_argument("--checkpoint_freq", type=int, default=300 if ON_GPU else 5)
    parser.add_argument("--images", type=int, default=0 if ON_GPU else 5, help="a class and environment (0: all)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ours", default="", help="more flags for our side, as one argument")
    args = parser.parse_args()
    print(header(args), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data_dir = pacs(args.data_dir, args.images, folder)
        environment = environments(args.domainbed, folder, torch_home(folder, args.backbone, args.weights))
        cache = ["-m", "dg_batchformer", "data", "cache", "--dataset", "PACS", "--data_dir", data_dir]
        print(f"cache ready after {seconds(cache, environment['ours']):.1f} s", flush=True)
        hparams = {"resnet18": args.backbone == "resnet18", "resnet50_augmix": False, "batch_size": args.batch_size}
        flags = ["--data_dir", data_dir, "--dataset", "PACS", "--algorithm", args.algorithm]
        flags += ["--test_envs", args.test_env, "--steps", args.steps, "--checkpoint_freq", args.checkpoint_freq]
        flags += ["--hparams", json.dumps(hparams)]
        extra = {"ours": shlex.split(args.ours), "DomainBed": []}
        took: dict[str, list[float]] = {side: [] for side in SIDES}
        accuracies: dict[str, list[float]] = {side: [] for side in SIDES}
        for seed in range(args.seeds):
            for side, command in SIDES.items():
                out = folder / f"{side}{seed}"
                own = ["--seed", seed, "--trial_seed", seed, "--output_dir", out, *extra[side]]
                took[side].append(seconds([*command, *flags, *own], environment[side]))
                accuracies[side].append(accuracy(out, args.test_env))
                print(f"seed {seed} {side:10} {took[side][-1]:7.1f} s {accuracies[side][-1]:5.1f} %", flush=True)
    for side in SIDES:
        print(f"{side:17} {spread(took[side], 1)} s, accuracy {mean_and_error(accuracies[side])} %")
    differences = [a - b for a, b in zip(accuracies["ours"], accuracies["DomainBed"], strict=True)]
    print(f"accuracy, ours less DomainBed's, seed by seed: {mean_and_error(differences)} points")
    print(f"ratio of seconds, DomainBed's to ours: {spread(ratios(took['DomainBed'], took['ours']))}")


if __name__ == "__main__":
    main()
