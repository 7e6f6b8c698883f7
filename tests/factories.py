"""Small inputs for tests."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from dg_batchformer import default_hparams, get_algorithm_class
from dg_batchformer.jobs.plan import Job, Sweep, plan
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.files import PROGRESS, RESULTS
from dg_batchformer.runs.records import Checkpoint, Problem
from dg_batchformer.selection import collect
from dg_batchformer.selection.methods import FinishedRun
from dg_batchformer.selection.table import Section, build

SHAPE, CLASSES, DOMAINS = (1, 16, 16), 4, 3


def make(name: str | type, shape=SHAPE, **hparams: Any):
    """An algorithm for small images, its initial weights always the same."""
    cls = get_algorithm_class(name) if isinstance(name, str) else name
    torch.manual_seed(0)
    return cls(shape, CLASSES, DOMAINS, {**default_hparams(cls, "RotatedDigits"), **hparams})


class Plain(nn.Module):
    """An algorithm that knows nothing of this package but DomainBed's contract."""

    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__()
        self.featurizer = self.build_featurizer(input_shape, hparams)
        self.classifier = nn.Linear(self.featurizer.n_outputs, num_classes)
        self.network = nn.Sequential(self.featurizer, self.classifier)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=hparams["lr"])

    def build_featurizer(self, input_shape, hparams):
        featurizer = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), 8))
        featurizer.n_outputs = 8
        return featurizer

    def update(self, minibatches, unlabeled=None):
        loss = sum(F.cross_entropy(self.predict(x), y) for x, y in minibatches)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}

    def predict(self, x):
        return self.network(x)


def minibatches(sizes=(6, 6, 6), shape=SHAPE, seed: int = 0):
    """One (x, y) per size."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, *shape, generator=generator), torch.randint(0, CLASSES, (n,), generator=generator))
        for n in sizes
    ]


def weights(algorithm) -> dict[str, torch.Tensor]:
    """A copy of the trainable weights by name."""
    return {name: parameter.detach().clone() for name, parameter in algorithm.named_parameters()}


def image_tree(root: Path, environments=("a", "b", "c"), classes=("cat", "dog"), n: int = 4, size: int = 24) -> Path:
    """Random JPEG files in root/<environment>/<class>/."""
    random = np.random.RandomState(0)
    for environment in environments:
        for label in classes:
            folder = root / environment / label
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = random.randint(0, 255, (size, size + 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg")
    return root


def manifest(root: Path, environments=("a", "b", "c"), *, splits=True, name="listed.csv") -> Path:
    """A CSV file in the folder of an `image_tree`; with splits each class has images of train, train, val and test."""
    paths = sorted(image_tree(root, environments).glob("*/*/*.jpg"))
    lines = ["env,label,path" + ",split" * splits]
    for path in paths:
        environment, label, file = path.relative_to(root).parts
        split = f",{('train', 'train', 'val', 'test')[int(path.stem)]}" if splits else ""
        lines.append(f"{environment},{label},{environment}/{label}/{file}{split}")
    (root / name).write_text("\n".join(lines) + "\n")
    return root / name


def mnist_files(folder: Path, train: int, test: int) -> Path:
    """MNIST's four files, with random images and labels."""
    raw, random = folder / "MNIST" / "raw", np.random.RandomState(0)
    raw.mkdir(parents=True)
    for part, n in (("train", train), ("t10k", test)):
        for name, shape in (("images-idx3", (n, 28, 28)), ("labels-idx1", (n,))):
            header = np.array([0x800 + len(shape), *shape], dtype=">i4").tobytes()
            values = random.randint(1, 255 if len(shape) > 1 else 10, shape, dtype=np.uint8)
            (raw / f"{part}-{name}-ubyte").write_bytes(header + values.tobytes())
    return folder


def spawrious_files(folder: Path, n: int) -> Path:
    """Small random images in the places and breeds of Spawrious."""
    places, breeds = (
        ("desert", "jungle", "dirt", "snow", "mountain", "beach"),
        ("bulldog", "corgi", "dachshund", "labrador"),
    )
    for group in ("0", "1"):
        image_tree(folder / group, places, breeds, n=n, size=8)
    return folder


def args(test_envs, algorithm="ERM", dataset="PACS", trial=0, hparams_seed=0) -> dict[str, Any]:
    """The `args` of a record."""
    return {
        "dataset": dataset,
        "algorithm": algorithm,
        "test_envs": list(test_envs),
        "trial_seed": trial,
        "hparams_seed": hparams_seed,
    }


def record(step: int, ins, outs, of: dict[str, Any]) -> dict[str, Any]:
    """A record with the accuracies of the in- and out-splits."""
    accuracies = {f"env{i}_in_acc": value for i, value in enumerate(ins)}
    accuracies |= {f"env{i}_out_acc": value for i, value in enumerate(outs)}
    return {"step": step, **accuracies, "args": of}


def write_run(folder: Path, records, *, done: bool = True) -> Path:
    """A run's folder as the trainer, ours or DomainBed's, leaves it."""
    folder.mkdir(parents=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(one, sort_keys=True) + "\n" for one in records))
    if done:
        (folder / "done").write_text("done")
    return folder


TIMES = {"step_time", "images_per_second", "run_seconds", "args"}


def outcome(folder: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """All that a run leaves, but for times."""
    files = [folder / name for name in (RESULTS, PROGRESS) if (folder / name).exists()]
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    model = torch.load(folder / "model.pkl", weights_only=True)["model_dict"]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows], model


def assert_same(one: Path, other: Path) -> None:
    """Two runs' folders hold the same results, to the bit."""
    (rows, model), (other_rows, other_model) = outcome(one), outcome(other)
    assert rows == other_rows
    assert model.keys() == other_model.keys()
    assert all(torch.equal(value, other_model[name]) for name, value in model.items())


def run_of(
    folder: Path,
    test_envs=0,
    accuracy: float = 0.5,
    *,
    algorithm="ERM",
    dataset="PACS",
    trial=0,
    hparams_seed=0,
    n_environments=4,
    steps=(300,),
    done=True,
    name="",
    given=(),
    **fields: Any,
) -> Path:
    """A run with `accuracy` on what it leaves out; `given` are more args, `fields` more of its records."""
    test_envs = [test_envs] if isinstance(test_envs, int) else list(test_envs)
    of = {**args(test_envs, algorithm, dataset, trial, hparams_seed), **dict(given)}
    ins = [accuracy if i in test_envs else 0.9 for i in range(n_environments)]
    name = name or "-".join(map(str, (dataset, algorithm, *test_envs, f"t{trial}", f"h{hparams_seed}")))
    while (folder / name).exists():
        name += "+"
    rows = [{**record(step, ins, [0.5] * n_environments, of), **fields} for step in steps]
    return write_run(folder / name, rows, done=done)


def sweep(
    folder: Path, *, algorithms=("ERM",), envs=range(4), trials=range(1), hparams_seeds=range(1), **options: Any
) -> Path:
    """A run of each; options of `run_of` may be functions of algorithm, environment, trial and hparams_seed."""
    for key in itertools.product(algorithms, envs, trials, hparams_seeds):
        algorithm, env, trial, hparams_seed = key
        own = {name: value(*key) if callable(value) else value for name, value in options.items()}
        run_of(folder, env, algorithm=algorithm, trial=trial, hparams_seed=hparams_seed, **own)
    return folder


TAIL = [60, 30, 5]
"""Training images of three classes in each environment: 180, 90 and 15 over three of them."""


def tailed(folder: Path, algorithm: str, env: int, trial: int, by_class: list[float], **changed: Any) -> Path:
    """A run on a long tail of PACS, with the accuracies of the classes in the left-out environment."""
    of = {**args([env], algorithm, trial=trial), "imbalance": 0.02}
    own = {f"env{i}_in_by_class": by_class if i == env else [1.0, 1.0, None] for i in range(4)}
    macro = {f"env{i}_{part}_macro_acc": sum(by_class) / 3 for i in range(4) for part in ("in", "out")}
    counts = {name: TAIL for i, name in enumerate("ACPS") if i != env}
    row = {**record(300, [0.5] * 4, [0.5] * 4, of), **macro, **own, "class_counts": counts, **changed}
    return write_run(folder / f"{algorithm}-{env}-{trial}", [row])


def finished_run(rows: Sequence[dict[str, Any]]) -> FinishedRun:
    """The run of some records."""
    return FinishedRun.from_records("sweep/a", [Checkpoint.from_record(row) for row in rows])


def planned(folder: Path, name: str, **of: Any) -> None:
    """The folder of a run that has not begun."""
    (folder / name).mkdir(parents=True)
    (folder / name / "job.json").write_text(json.dumps(of))


def tables(folder: Path, selection="training-domain", ddof=0) -> list[Section]:
    """The tables of a folder under one method."""
    return build(collect([folder]), ddof, [selection])


def table(folder: Path, selection="training-domain", dataset="PACS", ddof=0) -> Section:
    """The one table of a dataset."""
    (found,) = [one for one in tables(folder, selection, ddof) if one.dataset == dataset]
    return found


def rows(folder: Path, *which: Any, **more: Any) -> dict[str, Any]:
    """The cells of that table by label and column."""
    return {row.label: row.cells for row in table(folder, *which, **more).rows}


def texts(problems: Sequence[Problem], kind="") -> list[str]:
    """What the problems, all or those of a kind, say."""
    return [problem.text for problem in problems if kind in ("", problem.kind)]


VARIED = ("n_hparams_from", "n_hparams", "n_trials", "pairs", "single_test_envs", "n_test_envs")


def sweep_of(output_dir: Path, datasets=("Debug28",), algorithms=("ERM",), **given: Any) -> Sweep:
    """A sweep, of the defaults in one trial unless said otherwise."""
    own = {name: given.pop(name) for name in VARIED if name in given}
    common = RunArguments(output_dir=str(output_dir), **given)
    return Sweep(datasets, algorithms, **{"n_hparams": 1, "n_trials": 1, **own}, common=common)


def jobs_of(output_dir: Path, datasets=("Debug28",), algorithms=("ERM",), **given: Any) -> list[Job]:
    """The runs of `sweep_of`."""
    return plan(sweep_of(output_dir, datasets, algorithms, **given))
