"""The arguments of a run, DomainBed's, and everything that can be wrong with them."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dg_batchformer.data.benchmarks import find_benchmark
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.hparams import Hyperparameter, problems_with, seed_hash
from dg_batchformer.registry import default_hparams, hyperparameters, random_hparams
from dg_batchformer.runs.protocols import DOMAINBED, PROTOCOLS, find_protocol


@dataclass(frozen=True)
class RunArguments:
    """DomainBed's training flags under their own names; `steps` and `checkpoint_freq` None: the dataset's own.

    Ours are `cache_dir` and `skip_corrupt`, those of `load_dataset`; `protocol`, which holds fixed what is not said
    here; `fixed_hparams`, with which all trials take trial 0's draws of the search; `precision`, "fp32" or "bf16";
    `compile`; and `checkpoint_minutes`, after which the state is saved again.
    """

    dataset: str = "RotatedDigits"
    algorithm: str = "ERM"
    test_envs: list[int] = field(default_factory=lambda: [0])
    data_dir: str | None = None
    hparams: str | None = None
    hparams_seed: int = 0
    trial_seed: int = 0
    seed: int = 0
    steps: int | None = None
    checkpoint_freq: int | None = None
    holdout_fraction: float = 0.2
    output_dir: str = "train_output"
    skip_model_save: bool = False
    save_model_every_checkpoint: bool = False
    cache_dir: str | None = None
    skip_corrupt: bool = False
    protocol: str = DOMAINBED
    fixed_hparams: bool = False
    precision: str = "fp32"
    compile: bool = False
    checkpoint_minutes: float = 10.0


NOT_IN_ID = (
    "data_dir",
    "output_dir",
    "skip_model_save",
    "save_model_every_checkpoint",
    "cache_dir",
    "checkpoint_minutes",
)
"""Arguments that change no result."""

PRECISIONS = ("fp32", "bf16")


def command_line(program: Sequence[str], arguments: Mapping[str, Any]) -> str:
    """The command that runs a program with some arguments, by name; those that are None or False are left out."""
    words = list(program)
    for name, value in sorted(arguments.items()):
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def data_arguments(arguments: RunArguments) -> dict[str, Any]:
    """What `load_dataset` takes of a run's arguments."""
    return {
        "name": arguments.dataset,
        "data_dir": arguments.data_dir,
        "cache_dir": arguments.cache_dir,
        "skip_corrupt": arguments.skip_corrupt,
    }


def parse_hparams(text: str | None) -> dict[str, Any]:
    """The hparams of a JSON object."""
    if text is None:
        return {}
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"--hparams {text!r} is not JSON ({error}): expected an object such as '{{\"lr\": 0.001}}'"
        ) from error
    if not isinstance(given, dict):
        raise InputError(f"--hparams {text!r} is a JSON {type(given).__name__}: expected an object")
    return given


def check(arguments: RunArguments) -> dict[str, Any]:
    """The hparams of a run whose arguments are sound; else an InputError that lists all that is wrong."""
    problems = number_problems(arguments) + protocol_problems(arguments.protocol, arguments.hparams_seed)
    if arguments.precision not in PRECISIONS:
        problems.append(unknown("precision", arguments.precision, PRECISIONS))
    try:
        problems += test_env_problems(arguments.test_envs, find_benchmark(arguments.dataset).environments)
    except InputError as error:
        problems.append(str(error))
    known: Iterable[Hyperparameter] = ()
    given: dict[str, Any] = {}
    try:
        known = hyperparameters(arguments.algorithm, arguments.dataset)
    except InputError as error:
        problems.append(str(error))
    try:
        given = parse_hparams(arguments.hparams)
    except InputError as error:
        problems.append(str(error))
    if given.get("class_balanced") and not getattr(PROTOCOLS.get(arguments.protocol), "balances", True):
        problems.append(f"hparam 'class_balanced' is true, and protocol {arguments.protocol} draws without replacement")
    if known:
        wrong = problems_with(given, known)
        defaults = default_hparams(arguments.algorithm, arguments.dataset)
        problems += wrong or backbone_problems({**defaults, **given})
    problems += folder_problems(Path(arguments.output_dir))
    if problems:
        raise InputError("\n".join(problems))
    return {**drawn_hparams(arguments), **given}


def drawn_hparams(arguments: RunArguments) -> dict[str, Any]:
    """Defaults at hparams_seed 0, the protocol's among them, else DomainBed's draw for (hparams_seed, trial_seed).

    With `fixed_hparams` it is trial 0's in every trial.
    """
    if arguments.hparams_seed:
        seed = seed_hash(arguments.hparams_seed, 0 if arguments.fixed_hparams else arguments.trial_seed)
        return random_hparams(arguments.algorithm, arguments.dataset, seed)
    defaults = default_hparams(arguments.algorithm, arguments.dataset)
    own = find_protocol(arguments.protocol).hparams(arguments.algorithm, arguments.dataset)
    return {**defaults, **{name: value for name, value in own.items() if name in defaults}}


def protocol_problems(name: str, last_hparams_seed: int) -> list[str]:
    """A protocol that is not known, or that has no random search where one is asked for."""
    try:
        protocol = find_protocol(name)
    except InputError as error:
        return [str(error)]
    if last_hparams_seed and not protocol.searches:
        return [
            f"protocol {name} fixes the hyper-parameters, and has no search: expected hparams_seed 0 (--n_hparams 1); "
            "--hparams changes single ones"
        ]
    return []


def number_problems(arguments: RunArguments) -> list[str]:
    """Counts and fractions out of their range."""
    problems = []
    for name in ("steps", "checkpoint_freq"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            problems.append(f"--{name} is {value}: expected at least 1")
    if not 0 <= arguments.seed < 2**32:
        problems.append(f"--seed is {arguments.seed}: expected a number from 0 to {2**32 - 1}")
    if not arguments.checkpoint_minutes >= 0:
        problems.append(f"--checkpoint_minutes is {arguments.checkpoint_minutes}: expected at least 0")
    if not 0 < arguments.holdout_fraction < 1:
        problems.append(f"--holdout_fraction is {arguments.holdout_fraction}: expected a number between 0 and 1")
    return problems


def test_env_problems(test_envs: list[int], environments: tuple[str, ...]) -> list[str]:
    """Test environments that are not there, are named twice, or leave nothing to train on."""
    listed = ", ".join(f"{i} ({name})" for i, name in enumerate(environments))
    problems = [
        f"test environment {i} is out of range: expected one of {listed}"
        for i in test_envs
        if not 0 <= i < len(environments)
    ]
    if len(set(test_envs)) < len(test_envs):
        problems.append(f"--test_envs {test_envs} names an environment twice")
    if not problems and not test_envs:
        problems.append(f"no test environment is given: expected one of {listed}")
    if not problems and len(test_envs) == len(environments):
        problems.append(f"--test_envs {test_envs} leaves no environment to train on, of {listed}")
    return problems


def backbone_problems(hparams: dict[str, Any]) -> list[str]:
    """A backbone or weights that cannot be had; the networks of DomainBed's own algorithms name neither."""
    # Imports torch, which what only reads results does not need.
    from dg_batchformer.weights import check_backbone

    try:
        if "weights" in hparams:
            check_backbone(hparams)
    except InputError as error:
        return [str(error)]
    return []


def folder_problems(folder: Path) -> list[str]:
    """Why nothing can be written to an output folder."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return [f"--output_dir {folder} cannot be made: {existing} is a file"]
    if not os.access(existing, os.W_OK):
        return [f"--output_dir {folder} cannot be written to: {existing} allows no writing"]
    return []
