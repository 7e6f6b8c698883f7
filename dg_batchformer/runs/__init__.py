"""A run with its names resolved; here strings become objects."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dg_batchformer.data import Benchmark, find_benchmark, path_free
from dg_batchformer.data.folders import CACHES
from dg_batchformer.data.imbalance import KINDS, Imbalance
from dg_batchformer.errors import InputError, Problems, unknown
from dg_batchformer.hparams import content_hash, problems_with, seed_hash, weights_identity
from dg_batchformer.registry import default_hparams, get_algorithm_class, hyperparameters, random_hparams
from dg_batchformer.runs import files
from dg_batchformer.runs.arguments import (
    AUTO,
    FIELDS,
    IDENTITY,
    PRECISIONS,
    PREDICTED,
    STAGES,
    TRACKERS,
    Role,
    RunArguments,
    names_of,
    parse_hparams,
    training_envs,
)
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.runs.presets import PRESETS, preset_hparams, preset_problems
from dg_batchformer.runs.protocols import Protocol, find_protocol

if TYPE_CHECKING:
    from dg_batchformer.data.environments import Dataset


@dataclass(frozen=True)
class Run:
    """A run resolved from its arguments: benchmark, protocol, algorithm class, hyper-parameters and length.

    `steps` are those of all stages, `first_stage` those of the first.
    """

    arguments: RunArguments
    benchmark: Benchmark
    protocol: Protocol
    algorithm: Any
    hparams: dict[str, Any]
    steps: int
    checkpoint_freq: int
    first_stage: int

    @property
    def folder(self) -> RunFolder:
        return RunFolder(Path(self.arguments.output_dir))

    @property
    def training_envs(self) -> list[int]:
        """The numbers of the training environments."""
        given = self.arguments
        return training_envs(given.train_envs, given.test_envs, len(self.benchmark.environments))

    @property
    def predicted_envs(self) -> list[int]:
        """The numbers of the environments whose predictions are saved; "test" is all if none is left out."""
        given = self.arguments
        known = {"training": self.training_envs, "test": given.test_envs}
        return list(known.get(given.save_predictions or "") or range(len(self.benchmark.environments)))

    @property
    def imbalance(self) -> Imbalance | None:
        """The long tail of the training images, if any."""
        given = self.arguments
        return Imbalance(given.imbalance, given.imbalance_kind, given.imbalance_max) if given.imbalance else None

    @property
    def split_file(self) -> str | None:
        """A hash of the content of the given file of splits, if any."""
        path = self.arguments.splits
        return content_hash(path)[:16] if path else None

    @property
    def is_by_class(self) -> bool:
        """Whether records have accuracies by class: under a long tail, and on benchmarks with own splits."""
        return bool(self.imbalance or self.benchmark.tests)

    @property
    def job_id(self) -> str:
        """Hash of the given arguments that change the result, without the paths of data and output."""
        what = {
            name: value
            for name in names_of(*IDENTITY)
            if (value := getattr(self.arguments, name)) != FIELDS[name].default or not FIELDS[name].metadata["late"]
        }
        given = self._with_weights(self.arguments.given_hparams())
        what |= {"dataset": path_free(self.arguments.dataset), "hparams": given}
        what |= {"steps": self.steps, "checkpoint_freq": self.checkpoint_freq}
        if self.split_file:
            what["splits"] = self.split_file
        return hashlib.md5(json.dumps(what, sort_keys=True).encode("utf-8")).hexdigest()

    def identity(self, dataset: Dataset) -> str:
        """Hash of everything that determines the course of the run: arguments without paths, hyper-parameters, data."""
        what = {
            name: getattr(self.arguments, name) for name in names_of(*IDENTITY) if not FIELDS[name].metadata["resolved"]
        }
        data: list[Any] = [
            path_free(self.arguments.dataset),
            dataset.sizes,
            dataset.fingerprint,
            *filter(None, [self.imbalance, self.split_file, self.arguments.train_envs, self.arguments.image_cache]),
        ]
        length = [self.steps, self.checkpoint_freq]
        if self.arguments.stage:
            data += [self.arguments.stage, self.first_stage]
        text = json.dumps([what, self._with_weights(self.hparams), length, data], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    @staticmethod
    def _with_weights(hparams: dict[str, Any]) -> dict[str, Any]:
        """Hyper-parameters with the content hash of a weights file in place of its path."""
        return {**hparams, **({"weights": weights_identity(hparams["weights"])} if "weights" in hparams else {})}


def resolve(arguments: RunArguments) -> Run:
    """The run of these arguments; an InputError lists all their errors."""
    problems = Problems(number_problems(arguments))
    protocol = problems.attempt(find_protocol, arguments.protocol, arguments.hparams_seed)
    benchmark = problems.attempt(find_benchmark, arguments.dataset)
    if benchmark:
        problems += env_problems(arguments, benchmark)
        problems += preset_problems(arguments.preset, arguments.dataset, arguments.hparams_seed)
        fraction = arguments.holdout_fraction != FIELDS["holdout_fraction"].default
        for name, is_given in (("holdout_fraction", fraction), ("splits", bool(arguments.splits))):
            if benchmark.tests and is_given:
                problems.append(f"--{name} is given, but {arguments.dataset} has its own splits: omit it")
    algorithm = problems.attempt(get_algorithm_class, arguments.algorithm)
    given = problems.attempt(parse_hparams, arguments.hparams) or {}
    if protocol and not protocol.balances:
        how = f"and protocol {protocol.name} draws without replacement"
        problems += [f"hparam 'class_balanced' is true, {how}"] * bool(given.get("class_balanced"))
        problems += [f"--stage needs balanced classes, {how}"] * bool(arguments.stage)
    if algorithm:
        problems += problems_with(given, hyperparameters(algorithm, arguments.dataset)) or backbone_problems(
            default_hparams(algorithm, arguments.dataset) | preset_hparams(arguments.preset, arguments.dataset) | given
        )
    problems += folder_problems(Path(arguments.output_dir)) + split_file_problems(arguments.splits)
    problems.raise_any()
    assert protocol is not None  # else there was a problem
    assert benchmark is not None
    steps, checkpoint_freq = protocol.length(benchmark)
    first_stage = arguments.steps or steps
    second_stage = (arguments.stage_steps or first_stage) if arguments.stage else 0
    return Run(
        arguments,
        benchmark,
        protocol,
        algorithm,
        {**drawn_hparams(arguments, algorithm, protocol), **given},
        first_stage + second_stage,
        arguments.checkpoint_freq or checkpoint_freq,
        first_stage,
    )


def run_in(folder: RunFolder, **changed: Any) -> Run:
    """The run of a folder, with some arguments changed, such as the place of moved data."""
    lines = [*files.last_lines(folder / files.RESULTS, 1), *files.last_lines(folder / files.PROGRESS, 1)]
    try:
        recorded = json.loads(lines[0])["args"]
        # What concerns its launch, such as a tracker's package, is not needed again.
        known = {name: recorded[name] for name in names_of(*IDENTITY, Role.DATA) if name in recorded}
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} has no record of a run: expected a folder that `train` has written") from error
    return resolve(RunArguments(**{**known, "output_dir": str(folder), **changed}))


def drawn_hparams(arguments: RunArguments, algorithm: Any, protocol: Protocol) -> dict[str, Any]:
    """The defaults at hparams_seed 0, else DomainBed's draw for both seeds; the protocol's replace either.

    Those of a preset replace the protocol's.
    With `fixed_hparams` all trials use the draw of trial 0.
    """
    if arguments.hparams_seed:
        seed = seed_hash(arguments.hparams_seed, 0 if arguments.fixed_hparams else arguments.trial_seed)
        drawn = random_hparams(algorithm, arguments.dataset, seed)
    else:
        drawn = default_hparams(algorithm, arguments.dataset)
    own = protocol.hparams(arguments.algorithm, arguments.dataset)
    own |= preset_hparams(arguments.preset, arguments.dataset)
    return {**drawn, **{name: value for name, value in own.items() if name in drawn}}


def number_problems(arguments: RunArguments) -> list[str]:
    """The errors of unknown choices, and of counts and fractions out of range."""
    problems = []
    for name in ("steps", "checkpoint_freq", "stage_steps"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            problems.append(f"--{name} is {value}: expected at least 1")
    choices: dict[str, Iterable[str]] = {"precision": PRECISIONS, "stage": STAGES, "track": TRACKERS}
    choices |= {"image_cache": CACHES, "preset": PRESETS, "save_predictions": PREDICTED}
    if arguments.precision == AUTO:
        problems.append(f"--precision {AUTO} is for sweeps, which time both: expected {' or '.join(PRECISIONS)}")
        del choices["precision"]
    for name, known in choices.items():
        if (value := getattr(arguments, name)) not in (None, *known):
            problems.append(unknown(name, value, known))
    if arguments.track in TRACKERS and importlib.util.find_spec(arguments.track) is None:
        problems.append(f"--track {arguments.track} needs its package: pip install 'dg-batchformer[{arguments.track}]'")
    needed = {"torchmetrics": "metrics", "pyarrow": "parquet"} if arguments.save_predictions else {}
    for package, extra in needed.items():
        if importlib.util.find_spec(package) is None:
            problems.append(f"--save_predictions needs {package}: pip install 'dg-batchformer[{extra}]'")
    if arguments.stage_steps and not arguments.stage:
        problems.append("--stage_steps needs --stage: expected a stage too")
    if not 0 <= arguments.seed < 2**32:
        problems.append(f"--seed is {arguments.seed}: expected a number from 0 to {2**32 - 1}")
    if not arguments.checkpoint_minutes >= 0:
        problems.append(f"--checkpoint_minutes is {arguments.checkpoint_minutes}: expected at least 0")
    if not 0 < arguments.holdout_fraction < 1:
        problems.append(f"--holdout_fraction is {arguments.holdout_fraction}: expected a number between 0 and 1")
    return problems + imbalance_problems(arguments)


def imbalance_problems(arguments: RunArguments) -> list[str]:
    """The errors of a long tail."""
    ratio, kind, n_max = arguments.imbalance, arguments.imbalance_kind, arguments.imbalance_max
    if ratio is None:
        given = {"imbalance_kind": kind != KINDS[0], "imbalance_max": n_max is not None}
        return [f"--{name} needs --imbalance: expected a ratio too" for name, is_given in given.items() if is_given]
    problems = [] if 0 < ratio <= 1 else [f"--imbalance is {ratio}: expected a ratio above 0 and at most 1"]
    if kind not in KINDS:
        problems.append(unknown("imbalance_kind", kind, KINDS))
    if n_max is not None and n_max < 1:
        problems.append(f"--imbalance_max is {n_max}: expected at least 1")
    return problems


def env_problems(arguments: RunArguments, benchmark: Benchmark) -> list[str]:
    """The errors of environments: unknown, repeated, both sets, all left out, or none without test images elsewhere."""
    environments, test_envs, trained = benchmark.environments, arguments.test_envs, arguments.train_envs or []
    listed = ", ".join(f"{i} ({name})" for i, name in enumerate(environments))
    problems = []
    for name, kind, given in (("test_envs", "test", test_envs), ("train_envs", "training", trained)):
        outside = [i for i in given if not 0 <= i < len(environments)]
        problems += [f"{kind} environment {i} is out of range: expected one of {listed}" for i in outside]
        if len(set(given)) < len(given):
            problems.append(f"--{name} {given} names an environment twice")
    if both := sorted(set(test_envs) & set(trained)):
        problems.append(f"--train_envs and --test_envs both name {both}: expected different environments")
    if not problems and not test_envs and not benchmark.tests:
        problems.append(f"no test environment is given: expected one of {listed}")
    if not problems and len(test_envs) == len(environments):
        problems.append(f"--test_envs {test_envs} leaves no environment to train on, of {listed}")
    return problems


def split_file_problems(file: str | None) -> list[str]:
    """The errors of a file that is not one of splits; its samples are checked when the data are loaded."""
    # Imports torch, which commands that only read results do not need.
    from dg_batchformer.data.splits import rows_of

    problems = Problems()
    if file:
        problems.attempt(rows_of, Path(file))
    return problems


def backbone_problems(hparams: dict[str, Any]) -> list[str]:
    """The errors of an unavailable backbone or weights; the networks of DomainBed's algorithms name neither."""
    # Imports torch, which commands that only read results do not need.
    from dg_batchformer.weights import check_backbone

    problems = Problems()
    if "weights" in hparams:
        problems.attempt(check_backbone, hparams)
    return problems


def folder_problems(folder: Path) -> list[str]:
    """The errors of an output folder that is not writable."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return [f"--output_dir {folder} cannot be created: {existing} is a file"]
    if not os.access(existing, os.W_OK):
        return [f"--output_dir {folder} is not writable: check the permissions of {existing}"]
    return []
