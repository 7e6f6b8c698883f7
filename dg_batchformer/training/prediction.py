"""What a trained model says of images, and how good that is."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dg_batchformer.contracts import contract_of
from dg_batchformer.data.augment import SIZE
from dg_batchformer.data.cache import open_cache
from dg_batchformer.data.environments import Dataset, ImageEnvironment, Samples
from dg_batchformer.data.folders import EXTENSIONS, Folder, Source, Tree
from dg_batchformer.errors import InputError
from dg_batchformer.machine import available_cores
from dg_batchformer.registry import get_algorithm_class, split_name
from dg_batchformer.runs import Run
from dg_batchformer.runs.details import CONFUSION, detail_name
from dg_batchformer.training.compute import EVALUATION_BATCH, Compute, logits_of
from dg_batchformer.training.features import with_features
from dg_batchformer.training.setup import Setup, load_data, run_splits

SPLITS = ("in", "out", "test")
"""The names of the parts of a `Split`, in their order."""

MOST_CLASSES = 100
"""Records have no confusion matrix of more classes; the files of predictions have what makes one."""

BINS = 15
"""Bins of confidence for the calibration error, as in Guo et al. (ICML 2017)."""


@dataclass(frozen=True)
class Predictions:
    """The logits (n, classes) of some images: `samples` names them, `labels` (n) are None if unknown."""

    environment: str
    split: str
    samples: Sequence[str]
    labels: Tensor | None
    logits: Tensor
    classes: Sequence[str]

    @property
    def columns(self) -> dict[str, Sequence[Any]]:
        """A value of each image by column: its label and predicted class, then probabilities and logits by class."""
        names, n = list(self.classes), len(self.samples)
        return {
            "environment": [self.environment] * n,
            "split": [self.split] * n,
            "sample": self.samples,
            "label": [names[i] for i in self.labels.tolist()] if self.labels is not None else [""] * n,
            "prediction": [names[i] for i in self.logits.argmax(1).tolist()],
            **{f"probability {name}": own for name, own in zip(names, self.logits.softmax(1).T.numpy(), strict=True)},
            **{f"logit {name}": own for name, own in zip(names, self.logits.T.numpy(), strict=True)},
        }


class Quality(NamedTuple):
    """How good predictions are: shares in [0, 1] but for `nll`; `confusion` (classes, classes) counts, rows are labels.

    `by_class` has NaN for classes without images; `macro` is the mean of the others. `calibration` is the expected
    calibration error (Guo et al., ICML 2017), `brier` the squared error of the probabilities summed over the classes
    (Brier, 1950), in [0, 2], `nll` the mean negative log-likelihood.
    """

    accuracy: float
    macro: float
    by_class: list[float]
    calibration: float
    brier: float
    nll: float
    confusion: Tensor


def quality(logits: Tensor, labels: Tensor) -> Quality:
    """The quality of logits (n, classes) for labels (n), by torchmetrics (extra `metrics`)."""
    from torchmetrics.functional import classification

    n_classes = logits.shape[1]
    confusion = classification.multiclass_confusion_matrix(logits, labels, n_classes)
    counts = confusion.sum(1)
    by_class = confusion.diagonal() / counts
    errors = (logits.softmax(1) - F.one_hot(labels, n_classes)) ** 2
    return Quality(
        float(classification.multiclass_accuracy(logits, labels, n_classes, average="micro")),
        float(by_class[counts > 0].mean()),
        by_class.tolist(),
        float(classification.multiclass_calibration_error(logits, labels, n_classes, n_bins=BINS)),
        float(errors.sum(1).mean()),
        float(F.cross_entropy(logits, labels)),
        confusion,
    )


def load_model(run: Run, dataset: Dataset, file: Path) -> Any:
    """The model that a run has saved, in evaluation mode; an InputError if it is missing or of another shape."""
    if not file.is_file():
        raise InputError(f"{file} is missing: expected the model of a run without --skip_model_save")
    saved = torch.load(file, map_location="cpu", weights_only=True)
    shape = tuple(saved["model_input_shape"]), saved["model_num_classes"], saved["model_num_domains"]
    if shape[0] != tuple(dataset.input_shape):
        raise InputError(f"{file} takes inputs of shape {shape[0]}: these have {tuple(dataset.input_shape)}")
    # The weights of modifiers are not in the file. A second stage leaves the networks of ERM.
    name = "ERM" if run.arguments.stage else split_name(run.arguments.algorithm)[0]
    cls = get_algorithm_class(name)
    # The backbone need not load weights that the file replaces.
    hparams = {**saved["model_hparams"], **({"weights": None} if "weights" in saved["model_hparams"] else {})}
    labels = [torch.zeros(1, dtype=torch.long)] * shape[2]
    algorithm = contract_of(cls).construct(cls, shape, hparams, labels)
    algorithm.load_state_dict(saved["model_dict"])
    return algorithm.eval()


def predict(run: Run, model: str, environment: int | None = None, split: str | None = None) -> Iterator[Predictions]:
    """The predictions of a run's model on its data: of one environment or all, of one split (in, out, test) or all."""
    names = run.benchmark.environments
    if environment is not None and not 0 <= environment < len(names):
        listed = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        raise InputError(f"--environment {environment} is out of range: expected one of {listed}")
    compute = Compute.from_run(run)
    dataset = with_features(run.protocol.prepared(load_data(run.arguments)), run.hparams)
    algorithm = load_model(run, dataset, run.folder / model)
    splits = run_splits(run, dataset)
    if split == "test" and splits[0].test is None:
        raise InputError(f"--split test: {run.arguments.dataset} has no test splits, expected in or out")
    for i in range(len(names)) if environment is None else [environment]:
        for name, indices in zip(SPLITS, splits[i], strict=True):
            if indices is not None and split in (None, name):
                yield of_split(dataset, i, name, indices, all_logits(algorithm, dataset, i, indices, compute))


def of_split(dataset: Dataset, i: int, split: str, indices: Tensor, logits: Tensor) -> Predictions:
    """The predictions of a split of environment i, from its logits (n, classes) on the CPU."""
    environment, names = dataset.environments[i], dataset.sample_names(i)
    samples = [names[k] for k in indices.tolist()]
    return Predictions(environment.name, split, samples, environment.labels[indices], logits, dataset.classes)


def predict_folder(run: Run, model: str, folder: Path, classes: Sequence[str]) -> Predictions:
    """The predictions of a run's model on all images below a folder; InputError names images that are corrupt."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not paths:
        raise InputError(f"--images {folder} has no images: expected a folder with {', '.join(EXTENSIONS)}")
    threads = available_cores()
    with tempfile.TemporaryDirectory() as cache_dir, ThreadPoolExecutor(threads) as pool:
        tree = Tree(folder, [Folder("images", paths, [0] * len(paths))], [], [])
        cache = open_cache("images", tree, Source(cache_dir=cache_dir, threads=threads))
        if cache.corrupt:
            named = "\n".join(f"{paths[i]}: {problem}" for i, problem in sorted(cache.corrupt.items()))
            raise InputError(f"{len(cache.corrupt)} corrupt image(s): remove them\n{named}")
        labels = torch.zeros(len(paths), dtype=torch.long)
        compute = Compute.from_run(run)
        images = ImageEnvironment("images", cache.images, cache.originals, labels, pool)
        dataset = run.protocol.prepared(Dataset("images", [images], (3, SIZE, SIZE), tuple(classes)))
        dataset = with_features(dataset, run.hparams)
        algorithm = load_model(run, dataset, run.folder / model)
        logits = all_logits(algorithm, dataset, 0, torch.arange(len(paths)), compute)
    names = list(classes) if len(classes) == logits.shape[1] else list(map(str, range(logits.shape[1])))
    samples = [path.relative_to(folder).as_posix() for path in paths]
    return Predictions("images", "", samples, None, logits, names)


def all_logits(algorithm: Any, dataset: Dataset, i: int, indices: Tensor, compute: Compute) -> Tensor:
    """The logits (n, classes) of some samples of environment i, on the CPU."""
    algorithm.to(compute.device)
    chunks = indices.split(EVALUATION_BATCH[compute.device])
    return torch.cat([logits_of(algorithm, dataset, Samples(i, chunk), compute).cpu() for chunk in chunks])


def write(predictions: Sequence[Predictions], file: Path) -> None:
    """Writes a whole file of predictions: CSV, or Parquet by its ending (extra `parquet`)."""
    partial = file.with_name(f"{file.name}.partial")
    if file.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.concat_tables(pyarrow.table(one.columns) for one in predictions), partial)
    else:
        with partial.open("w", encoding="utf-8", newline="") as opened:
            table = csv.writer(opened)
            table.writerow(predictions[0].columns)
            for one in predictions:
                table.writerows(zip(*one.columns.values(), strict=True))
    os.replace(partial, file)


class Saver:
    """Collects the predictions of an evaluation at a step, or of the "final" model, for --save_predictions."""

    def __init__(self, setup: Setup, step: int | str) -> None:
        self.setup, self.step = setup, step
        self.logits: dict[tuple[int, str], list[Tensor]] = {}

    def see(self, i: int, split: str, logits: Tensor) -> None:
        """Takes the logits of a batch of environment i; batches are in the order of the split."""
        if i in self.setup.run.predicted_envs:
            self.logits.setdefault((i, split), []).append(logits)

    def write(self) -> dict[str, Any]:
        """Writes the predictions, if any, into the folder of the run; returns their quality for the record."""
        if not self.logits:
            return {}
        predictions: list[Predictions] = []
        details: dict[str, Any] = {}
        for (i, split), batches in self.logits.items():
            indices = dict(zip(SPLITS, self.setup.splits[i], strict=True))[split]
            assert indices is not None  # an evaluated split has samples
            one = of_split(self.setup.dataset, i, split, indices, torch.cat(batches).cpu())
            predictions.append(one)
            # A run that diverges has no quality; its validation loss ends it.
            if split != "out" and one.logits.isfinite().all():
                details |= {detail_name(i, split, name): value for name, value in details_of(one).items()}
        name = f"predictions_{self.step}" if isinstance(self.step, str) else f"predictions_step{self.step}"
        write(predictions, self.setup.run.folder / f"{name}.parquet")
        return details


def details_of(predictions: Predictions) -> dict[str, Any]:
    """The quality of predictions with labels, as a record has it."""
    assert predictions.labels is not None
    found = quality(predictions.logits, predictions.labels)
    details: dict[str, Any] = {"ece": found.calibration, "brier": found.brier, "nll": found.nll}
    return details | ({CONFUSION: found.confusion.tolist()} if len(predictions.classes) <= MOST_CLASSES else {})
