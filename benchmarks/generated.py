"""The folder of a finished sweep as DomainBed leaves it, with drawn accuracies in place of training."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dg_batchformer import ALGORITHMS, default_hparams, random_hparams
from dg_batchformer.data import find_benchmark
from dg_batchformer.hparams import seed_hash

DATASETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita")
STEPS = range(0, 4801, 300)
HOLDOUT = 0.2
MARK = "generated.json"
"""Written last: the sweep of a complete folder."""


@dataclass(frozen=True)
class Shape:
    """How large a sweep is: the first of the algorithms and datasets, each with all single and pair test_envs."""

    algorithms: int = len(ALGORITHMS)
    datasets: int = len(DATASETS)
    n_hparams: int = 20
    n_trials: int = 3


def generate(folder: Path, shape: Shape) -> None:
    """Fills an empty folder with a sweep; keeps a complete one."""
    mark = folder / MARK
    if mark.exists() and json.loads(mark.read_text()) == asdict(shape):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(
            f"{folder} is not empty and does not have this complete sweep: give another --folder, or delete it"
        )
    generator = np.random.default_rng(0)
    for train_args in sweep(shape):
        run = folder / hashlib.md5(json.dumps(train_args, sort_keys=True).encode()).hexdigest()
        run.mkdir()
        with (run / "results.jsonl").open("w") as file:
            for record in records({**train_args, "output_dir": str(run)}, generator):
                file.write(json.dumps(record, sort_keys=True) + "\n")
        # No side reads the logs, so they are empty.
        for name, text in (("out.txt", ""), ("err.txt", ""), ("done", "done")):
            (run / name).write_text(text)
    mark.write_text(json.dumps(asdict(shape)))


def sweep(shape: Shape) -> Iterator[dict[str, Any]]:
    """The arguments with which DomainBed's sweep would start each run."""
    datasets, algorithms = DATASETS[: shape.datasets], ALGORITHMS[: shape.algorithms]
    for trial_seed, dataset, algorithm in itertools.product(range(shape.n_trials), datasets, algorithms):
        envs = range(len(find_benchmark(dataset).environments))
        test_env_sets = [*itertools.combinations(envs, 1), *itertools.combinations(envs, 2)]
        for test_envs, hparams_seed in itertools.product(map(list, test_env_sets), range(shape.n_hparams)):
            yield {
                "dataset": dataset,
                "algorithm": algorithm,
                "test_envs": test_envs,
                "holdout_fraction": HOLDOUT,
                "hparams_seed": hparams_seed,
                "data_dir": "data",
                "task": "domain_generalization",
                "trial_seed": trial_seed,
                "seed": seed_hash(dataset, algorithm, test_envs, hparams_seed, trial_seed),
                "steps": STEPS[-1] + 1,
            }


def records(train_args: dict[str, Any], generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The records of a run as DomainBed's training script writes them, one for each checkpoint."""
    args = {
        "checkpoint_freq": None,
        "hparams": None,
        "save_model_every_checkpoint": False,
        "skip_model_save": True,
        "uda_holdout_fraction": 0,
        **train_args,
    }
    seeds = args["hparams_seed"], args["trial_seed"]
    hparams = drawn_hparams(args["algorithm"], args["dataset"], seed_hash(*seeds) if seeds[0] else None)
    sizes = find_benchmark(args["dataset"]).published[0]
    epoch = min(size - int(HOLDOUT * size) for size in sizes) / hparams["batch_size"]
    splits = accuracies(sizes, args["test_envs"], generator)
    seconds, noise = generator.uniform(0.2, 0.6, (2, len(STEPS))).tolist()
    mem_gb = generator.uniform(4, 9)
    for i, step in enumerate(STEPS):
        yield {
            **{name: values[i] for name, values in splits.items()},
            "step": step,
            "epoch": step / epoch,
            "step_time": seconds[i],
            "loss": noise[i] + 1.5 * math.exp(-step / 900),
            "mem_gb": mem_gb,
            "hparams": hparams,
            "args": args,
        }


@functools.cache
def drawn_hparams(algorithm: str, dataset: str, seed: int | None) -> dict[str, Any]:
    """The hyper-parameters of the random search, or the defaults without a seed."""
    return default_hparams(algorithm, dataset) if seed is None else random_hparams(algorithm, dataset, seed)


def accuracies(sizes: tuple[int, ...], test_envs: list[int], generator: np.random.Generator) -> dict[str, list[float]]:
    """Accuracies of each split by checkpoint, which rise to a level; a test environment has a lower one."""
    level = generator.uniform(0.7, 0.95)
    rise = 1 - 0.8 * np.exp(-np.array(STEPS) / 900)
    found = {}
    for env, size in enumerate(sizes):
        n_out = int(HOLDOUT * size)
        for split, n in (("in", size - n_out), ("out", n_out)):
            shares = level * rise * (0.8 if env in test_envs else 1) + generator.normal(0, 0.015, len(STEPS))
            found[f"env{env}_{split}_acc"] = (np.rint(shares.clip(0, 1) * n) / n).tolist()
    return found
