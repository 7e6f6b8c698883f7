"""DomainBed's scripts with this package's algorithms: python -m dg_batchformer.domainbed train|sweep|collect ...

The training script also gives an algorithm that averages weights its validation losses, which DomainBed does not.
"""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from dg_batchformer.cli import guarded
from dg_batchformer.domainbed import EXPECTED, register
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.registry import split_name
from dg_batchformer.runs import files
from dg_batchformer.runs.arguments import parse_hparams

SCRIPTS = {"train": "train", "sweep": "sweep", "collect": "collect_results"}
USAGE = f"usage: python -m dg_batchformer.domainbed {{{','.join(SCRIPTS)}}} [flags of DomainBed's script, or --help]"

READ_FROM_TRAIN = {"args", "eval_loader_names", "eval_loaders", "n_steps", "results", "step"}
"""The names in DomainBed's training script that `Validation` reads."""


def run_script(name: str, argv: Sequence[str]) -> None:
    """Runs one of DomainBed's `SCRIPTS`, as its own command would."""
    module = f"domainbed.scripts.{SCRIPTS[name]}"
    script = ModuleType("__main__")
    code = code_of(module)
    misc: Any = importlib.import_module("domainbed.lib.misc")
    theirs = misc.accuracy
    if name == "train":
        unknown = READ_FROM_TRAIN - set(code.co_names)
        if unknown:
            raise InputError(f"{module} has no {', '.join(sorted(unknown))}: {EXPECTED}")
        misc.accuracy = Validation(vars(script), theirs)
    sys.argv = [module, *argv]
    try:
        exec(code, vars(script))
    except ImportError as error:
        raise InputError(f"{module} cannot run ({error}): expected what DomainBed requires installed") from error
    finally:
        misc.accuracy = theirs


def code_of(module: str) -> CodeType:
    """The compiled code of a module, without an import."""
    spec = importlib.util.find_spec(module)
    code: CodeType | None = spec.loader.get_code(module) if spec and spec.loader else None  # type: ignore[attr-defined]
    if code is None:
        raise InputError(f"there is no {module}: {EXPECTED}")
    return code


class Validation:
    """Replaces DomainBed's `misc.accuracy`: first gives an algorithm that averages weights its validation losses.

    `script` has the names of the running training script. `finish()` comes before the last evaluation, so that
    `results.jsonl` has one record, that of the final model, as with our trainer; earlier records go to
    `progress.jsonl`.
    """

    def __init__(self, script: dict[str, Any], accuracy: Callable[..., float]) -> None:
        self.script, self.accuracy = script, accuracy
        self.step = -1
        self.on_the_way = False
        script["open"] = self.open

    def open(self, file: Any, *args: Any, **kwargs: Any) -> Any:
        """Replaces the script's `open`: earlier records for `results.jsonl` go to `progress.jsonl`."""
        path = Path(file)
        aside = self.on_the_way and path.name == files.RESULTS
        return open(path.with_name(files.PROGRESS) if aside else file, *args, **kwargs)

    def __call__(self, network: Any, loader: Any, weights: Any, device: Any) -> float:
        if hasattr(network, "finish") and self.step != self.script["step"]:
            self._checkpoint(network, device)
        return self.accuracy(network, loader, weights, device)

    def _checkpoint(self, algorithm: Any, device: Any) -> None:
        record, folder = self.script["results"], Path(self.script["args"].output_dir)
        if self.step < 0:  # left by an earlier run
            for name in (files.DONE, files.RESULTS, files.PROGRESS):
                (folder / name).unlink(missing_ok=True)
        self.step = self.script["step"]
        record["validation_loss"] = self._loss(algorithm, device)
        if hasattr(algorithm, "on_validation"):
            algorithm.on_validation(self.step, record["validation_loss"])
        self.on_the_way = self.step < self.script["n_steps"] - 1
        if not self.on_the_way:
            last = {"step": self.step, "validation_loss": record["validation_loss"]}
            files.append(folder / files.PROGRESS, last)
            algorithm.finish()
            record["validation_loss"] = self._loss(algorithm, device)
            if hasattr(algorithm, "swad_window"):
                record["swad_window"] = algorithm.swad_window

    def _loss(self, algorithm: Any, device: Any) -> float:
        """Mean over the training environments of the cross-entropy on their out-splits."""
        outside = {f"env{i}_out" for i in self.script["args"].test_envs}
        loaders = zip(self.script["eval_loader_names"], self.script["eval_loaders"], strict=True)
        losses = [
            mean_cross_entropy(algorithm, loader, device)
            for name, loader in loaders
            if name.endswith("_out") and name not in outside
        ]
        return sum(losses) / len(losses)


@torch.no_grad()
def mean_cross_entropy(algorithm: Any, loader: Any, device: Any) -> float:
    """Mean cross-entropy over the samples of a loader."""
    algorithm.eval()
    loss, n = 0.0, 0
    for x, y in loader:
        loss += float(F.cross_entropy(algorithm.predict(x.to(device)), y.to(device), reduction="sum"))
        n += len(y)
    algorithm.train()
    return loss / n


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of DomainBed's scripts; invalid input ends it with status 2 and a message."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name not in SCRIPTS:
        print(USAGE, file=sys.stdout if name in ("-h", "--help") else sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    return guarded(lambda: run(name, rest))


def run(name: str, argv: Sequence[str]) -> int:
    """Registers, checks the algorithms, and runs the script."""
    register()
    parser = argparse.ArgumentParser(add_help=False)
    # The names of DomainBed's flag, which a user may abbreviate.
    parser.add_argument("--algorithms", nargs="+", default=[])
    parser.add_argument("--hparams", type=parse_hparams, default={})
    parser.add_argument("--command_launcher")
    given = parser.parse_known_args(argv)[0]
    launchers = importlib.import_module("domainbed.command_launchers").REGISTRY
    if name == "sweep" and given.command_launcher not in (None, *launchers):
        raise InputError(unknown("launcher", given.command_launcher, launchers))
    check_algorithms(given.algorithms, given.hparams)
    run_script(name, argv)
    return 0


def check_algorithms(names: Sequence[str], hparams: dict[str, Any]) -> None:
    """Raises InputError, before any launch, for unknown names and impossible variants."""
    algorithms = importlib.import_module("domainbed.algorithms")
    default_hparams = importlib.import_module("domainbed.hparams_registry").default_hparams
    known = [name for name, value in vars(algorithms).items() if hasattr(value, "update") and hasattr(value, "predict")]
    problems = []
    for name in names:
        if name not in known:
            problems.append(unknown("algorithm", name, known))
        elif split_name(name)[1]:
            try:
                # Tried on small images, which costs little and has the same result.
                given = {**default_hparams(name, "RotatedMNIST"), **hparams}
                getattr(algorithms, name)((2, 28, 28), 10, 3, given)
            except InputError as error:
                problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))


if __name__ == "__main__":
    sys.exit(main())
