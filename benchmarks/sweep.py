"""Seconds of a sweep of twelve short runs, ours with its default workers against DomainBed's own launcher.

    python benchmarks/sweep.py --domainbed DomainBed
    python benchmarks/sweep.py --domainbed DomainBed --dataset PACS --data_dir DATA  # with a GPU

`DomainBed` is a checkout (or the environment variable DOMAINBED) whose imports are installed
(`pip install 'dg-batchformer[fidelity]'`). Both sides get the same datasets, algorithms, test environments, steps,
evaluations and hparams; seconds are those of the whole command. Debug28 is noise, which neither side downloads or
decodes: what a sweep costs beside its updates. On PACS the backbone's start is a file (`--weights`), or random.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from common import BACKBONES, ON_GPU, environments, header, pacs, ratios, seconds, spread, torch_home

from dg_batchformer.data import find_benchmark

ALGORITHMS = ("ERM", "CORAL", "IRM", "VREx")
RUNS = 12
SIDES = {"ours": ["-m", "dg_batchformer", "sweep"], "DomainBed": ["-m", "domainbed.scripts.sweep"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--domainbed", default=os.environ.get("DOMAINBED"))
    parser.add_argument("--dataset", choices=("Debug28", "PACS"), default="Debug28")
    parser.add_argument("--data_dir", default="", help="for PACS")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES[ON_GPU], help="for PACS")
    parser.add_argument("--weights", help="for PACS: file of the backbone's weights (default: random ones)")
    parser.add_argument("--images", type=int, default=0 if ON_GPU else 8, help="for PACS: a class and environment")
    parser.add_argument("--batch_size", type=int, help="per environment (default: 4; on PACS 32 or, on a CPU, 8)")
    parser.add_argument("--steps", type=int, help="a run (default: 10; on PACS 100 or, on a CPU, 2)")
    parser.add_argument("--launcher", default="local", help="DomainBed's (default local)")
    parser.add_argument("--turns", type=int, default=1)
    args = parser.parse_args()
    debug = args.dataset == "Debug28"
    args.batch_size = args.batch_size or (4 if debug else 32 if ON_GPU else 8)
    args.steps = args.steps or (10 if debug else 100 if ON_GPU else 2)
    args.algorithms = ALGORITHMS[: RUNS // len(find_benchmark(args.dataset).environments)]
    print(header(args), flush=True)
    hparams = {"batch_size": args.batch_size}
    if not debug:
        hparams |= {"resnet18": args.backbone == "resnet18", "resnet50_augmix": False}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data_dir = args.data_dir if debug else pacs(args.data_dir, args.images, folder)
        home = None if debug else torch_home(folder, args.backbone, args.weights)
        environment = environments(args.domainbed, folder, home)
        if not debug:
            cache = ["-m", "dg_batchformer", "data", "cache", "--dataset", "PACS", "--data_dir", data_dir]
            print(f"cache ready after {seconds(cache, environment['ours']):.1f} s", flush=True)
        flags = ["launch", "--datasets", args.dataset, "--algorithms", *args.algorithms, "--single_test_envs"]
        flags += ["--n_hparams", 1, "--n_trials", 1, "--steps", args.steps, "--hparams", json.dumps(hparams)]
        flags += ["--data_dir", data_dir, "--skip_confirmation"]
        own = {"ours": [], "DomainBed": ["--command_launcher", args.launcher]}
        took: dict[str, list[float]] = {side: [] for side in SIDES}
        for turn in range(args.turns):
            for side, command in SIDES.items():
                out = folder / f"{side}{turn}"
                words = [*command, *flags, "--output_dir", out, *own[side]]
                took[side].append(seconds(words, environment[side]))
                done = len(list(out.glob("*/done")))
                print(f"{side:10} {took[side][-1]:7.1f} s, {done} of {RUNS} runs done", flush=True)
                if done != RUNS:
                    raise SystemExit("\n".join(path.read_text()[-2000:] for path in out.glob("*/err.txt")))
    print(f"ratio of seconds, DomainBed's to ours: {spread(ratios(took['DomainBed'], took['ours']))}")


if __name__ == "__main__":
    main()
