"""Commands on algorithms and models: whether an algorithm works, and what a trained model says of images."""

import argparse
import json
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dg_batchformer.commands.data import moved
from dg_batchformer.commands.flags import Command, run_flags
from dg_batchformer.data.folders import Source
from dg_batchformer.errors import InputError
from dg_batchformer.runs import Run, run_in
from dg_batchformer.runs.arguments import Role, names_of
from dg_batchformer.runs.files import MODEL
from dg_batchformer.runs.folder import RunFolder

if TYPE_CHECKING:
    from dg_batchformer.training.prediction import Predictions, Quality


def _check_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "Runs an algorithm on random images and says, point by point, whether it trains, predicts, keeps its state, "
        "resumes, and takes each modifier. The status is 1 if it fails without a modifier."
    )
    p.add_argument("algorithm", help="a name or module:Class")
    p.add_argument("--hparams", default="{}", help="JSON object of hyper-parameters, in place of the defaults")
    p.add_argument("--image_size", type=int, default=32, help="width of the images (default %(default)s)")


def check_algorithm(arguments: argparse.Namespace) -> int:
    """The points of an algorithm on random images."""
    from dg_batchformer.registry import MODIFIER_ORDER
    from dg_batchformer.runs.arguments import parse_hparams
    from dg_batchformer.training.check import check_algorithm

    fails = False
    for point in check_algorithm(arguments.algorithm, parse_hparams(arguments.hparams), arguments.image_size):
        kind = f"with {point.name}" if point.name in MODIFIER_ORDER else point.name
        print(f"{'ok' if point.holds else 'NO':3} {kind:17} {point.found}", flush=True)
        fails |= not point.holds and point.name not in MODIFIER_ORDER
    return int(fails)


def _predict_parser(p: argparse.ArgumentParser) -> None:
    p.description = textwrap.dedent("""\
        Predicts images with the model of a run: class, probabilities and logits of each.
        Without --images those of the run's own data, whose quality it prints: accuracy, calibration,
        Brier score, negative log-likelihood, and the confusion matrix of a chosen environment.""")
    p.add_argument("--run", required=True, metavar="DIR", help="folder of a run with a model")
    p.add_argument("--images", metavar="FOLDER", help="predict all images below a folder")
    p.add_argument("--environment", type=int, metavar="N", help="number of an environment (default: all)")
    p.add_argument("--split", choices=["in", "out", "test"], help="split of the run (default: all)")
    p.add_argument("--model", default=MODEL, help="file in the folder of the run (default %(default)s)")
    p.add_argument("--output", metavar="FILE", help="file to write, .csv or .parquet")
    p.add_argument("--format", default="text", choices=["text", "json"], help="of the quality (default %(default)s)")
    run_flags(p, names_of(Role.DATA))


def predict(arguments: argparse.Namespace) -> int:
    """Predicts, writes the predictions, and prints their quality."""
    from dg_batchformer.training import prediction

    if arguments.images and (arguments.environment is not None or arguments.split):
        raise InputError("--images contradicts --environment and --split: expected one of them")
    if arguments.images and not arguments.output:
        raise InputError("--images needs --output: expected a .csv or .parquet file")
    output = Path(arguments.output) if arguments.output else None
    if output and output.suffix not in (".csv", ".parquet"):
        raise InputError(f"--output {output} has another ending: expected .csv or .parquet")
    has_metrics = find_spec("torchmetrics") is not None
    if not (output or has_metrics):
        raise InputError("the quality of predictions needs torchmetrics: install the extra `metrics`, or give --output")
    if output and output.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(f"--output {output} needs pyarrow: install the extra `parquet`, or write .csv")
    run = run_in(RunFolder(Path(arguments.run)), **moved(arguments))
    if arguments.images:
        folder = Path(arguments.images)
        predictions = [prediction.predict_folder(run, arguments.model, folder, classes_of(run))]
    else:
        chosen = arguments.environment, arguments.split
        predictions = list(prediction.predict(run, arguments.model, *chosen))
    if output:
        prediction.write(predictions, output)
        print(f"wrote {output}")
    labelled = predictions if has_metrics else []
    found = [(one, prediction.quality(one.logits, one.labels)) for one in labelled if one.labels is not None]
    if arguments.format == "json":
        print(json.dumps([described(*one) for one in found], indent=1))
    else:
        print("\n".join(in_words(run, found)), end="\n" * bool(found))
    return 0


def classes_of(run: Run) -> Sequence[str]:
    """The classes of a run's images; none if these are not there."""
    from dg_batchformer.data.loaders import tree_of

    given = run.arguments
    try:
        return tree_of(run.benchmark, Source(given.data_dir, partial_classes=given.partial_classes)).classes
    except InputError:
        return ()


def described(predictions: "Predictions", quality: "Quality") -> dict[str, object]:
    """The quality of predictions as JSON; classes without images have null."""
    by_class = [None if value != value else value for value in quality.by_class]
    values = {**quality._asdict(), "by_class": by_class, "confusion": quality.confusion.tolist()}
    return {
        "environment": predictions.environment,
        "split": predictions.split,
        "classes": predictions.classes,
        **values,
    }


def in_words(run: Run, found: Sequence[tuple["Predictions", "Quality"]]) -> list[str]:
    """The quality of predictions in lines, with the gap between validation and left-out accuracy."""
    names, test_envs = run.benchmark.environments, run.arguments.test_envs
    lines = [f"{'environment':15} split  accuracy  macro  calibration error  Brier    NLL"] if found else []
    for one, own in found:
        mark = "*" if one.environment in [names[i] for i in test_envs] else ""
        lines.append(
            f"{one.environment + mark:15} {one.split:5} {100 * own.accuracy:9.1f} {100 * own.macro:6.1f} "
            f"{own.calibration:18.3f} {own.brier:6.3f} {own.nll:6.3f}"
        )
    accuracies = {(one.environment, one.split): own.accuracy for one, own in found}
    validation = [accuracies.get((names[i], "out")) for i in run.training_envs]
    left_out = [accuracies.get((names[i], "in")) for i in test_envs]
    if left_out and None not in (*validation, *left_out):
        gap = sum(filter(None, validation)) / len(validation) - sum(filter(None, left_out)) / len(left_out)
        lines.append(f"gap: {100 * gap:+.1f} points, validation (training environments, out) minus left out* (in)")
    if len({one.environment for one, _ in found}) == 1:
        for one, own in found:
            lines += ["", f"{one.environment}, {one.split}: rows are labels, columns predictions"]
            width = max(6, *(len(name) + 1 for name in one.classes))
            lines.append(" " * width + "".join(f"{name:>{width}}" for name in one.classes) + "  accuracy")
            for name, row, accuracy in zip(one.classes, own.confusion.tolist(), own.by_class, strict=True):
                share = "-" if accuracy != accuracy else f"{100 * accuracy:.1f}"
                lines.append(f"{name:{width}}" + "".join(f"{count:{width}}" for count in row) + f"{share:>10}")
    return lines


COMMANDS = (
    Command(
        "predict",
        "what the model of a run says of images",
        _predict_parser,
        predict,
        (
            "predict --run run --environment 0 --split in",
            "predict --run run --images FOLDER --output predictions.csv",
        ),
    ),
    Command(
        "check-algorithm",
        "an algorithm on random images: what works",
        _check_parser,
        check_algorithm,
        (
            "check-algorithm my_algorithms:WorstEnvironment",
            "check-algorithm LDAM --hparams '{\"lr\": 0.01}'",
        ),
    ),
)
