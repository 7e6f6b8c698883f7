"""The arguments of a run, most of them DomainBed's flags; each has its role, default and help in one place."""

import dataclasses
import functools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from dg_batchformer.data.folders import CACHES
from dg_batchformer.data.imbalance import KINDS
from dg_batchformer.errors import InputError
from dg_batchformer.runs.presets import PRESETS
from dg_batchformer.runs.protocols import DOMAINBED, PROTOCOLS
from dg_batchformer.runs.records import RunKey

PRECISIONS = ("fp32", "bf16")
AUTO = "auto"
"""The precision of a sweep that takes the faster one."""

STAGES = ("crt",)
TRACKERS = ("tensorboard", "mlflow", "wandb")
"""What a run can be followed with; each is the name of its package, and of the extra that installs it."""

PREDICTED = ("test", "training", "all")
"""The environments whose predictions a run can save."""


class DataArguments(NamedTuple):
    """The arguments of `load_dataset`; runs with equal ones share their data."""

    name: str
    data_dir: str | None
    cache_dir: str | None
    skip_corrupt: bool
    partial_classes: bool
    image_cache: str | None


class Role(Enum):
    """The role of an argument; flags, job ids, saved states and tables derive from it."""

    VARIED = "identifies a run in a sweep"
    SETTING = "changes the result; a table never mixes two values"
    RESULT = "changes the result"
    DATA = "location of the data"
    LAUNCH = "concerns this launch only"


IDENTITY = (Role.VARIED, Role.SETTING, Role.RESULT)
"""Roles of the arguments that make two runs different runs."""


def argument(group: str, role: Role, help: str, default: Any, *, late: bool = False, resolved: bool = False) -> Any:
    """A field of `RunArguments`; --help shows its flag in `group`.

    A `late` argument is newer than the first sweeps: it is part of a job id only if it differs from its default, so
    that older ids stay. A `resolved` argument is part of a saved state's identity by its resolved value.
    """
    metadata = {"group": group, "role": role, "help": help, "late": late, "resolved": resolved}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunArguments:
    """The arguments of one run; None means the default of the dataset or of the protocol."""

    dataset: str = argument(
        "data", Role.VARIED, "a benchmark, folder:PATH or manifest:FILE", "RotatedDigits", resolved=True
    )
    algorithm: str = argument("algorithm", Role.VARIED, "such as CORAL_BatchFormer, or module:Class", "ERM")
    test_envs: list[int] = argument("data", Role.VARIED, "numbers of the left-out environments", [0])
    train_envs: list[int] | None = argument(
        "data",
        Role.SETTING,
        "numbers of the training environments; default: all that are not left out",
        None,
        late=True,
        resolved=True,
    )
    data_dir: str | None = argument("data", Role.DATA, "folder that contains the folders of the benchmarks", None)
    hparams: str | None = argument(
        "algorithm",
        Role.RESULT,
        "JSON object with hyper-parameters that replace the defaults",
        None,
        resolved=True,
    )
    preset: str | None = argument(
        "algorithm",
        Role.SETTING,
        f"defaults that others published for a family of networks: {', '.join(PRESETS)}; not tuned here",
        None,
        late=True,
        resolved=True,
    )
    hparams_seed: int = argument("algorithm", Role.VARIED, "0: the defaults; n: random row n of the search", 0)
    trial_seed: int = argument("schedule", Role.VARIED, "seeds the splits and the search", 0)
    seed: int = argument("schedule", Role.VARIED, "seeds everything else", 0)
    paired_seeds: bool = argument(
        "schedule",
        Role.SETTING,
        "in a sweep, a variant with BatchFormer has the seed of the same algorithm without it",
        False,
        late=True,
        resolved=True,
    )
    steps: int | None = argument(
        "schedule", Role.SETTING, "updates of a run; default: the dataset's", None, resolved=True
    )
    checkpoint_freq: int | None = argument(
        "schedule", Role.SETTING, "steps between evaluations; default: the dataset's", None, resolved=True
    )
    stage: str | None = argument(
        "schedule",
        Role.RESULT,
        "second stage: crt trains a new classifier on the frozen features, with balanced classes (default: none)",
        None,
        late=True,
        resolved=True,
    )
    stage_steps: int | None = argument(
        "schedule",
        Role.RESULT,
        "updates of the second stage; default: as many as of the first",
        None,
        late=True,
        resolved=True,
    )
    imbalance: float | None = argument(
        "data",
        Role.SETTING,
        "long tail: share of training images that the rarest class keeps, in (0, 1] (default: keep all images)",
        None,
        late=True,
        resolved=True,
    )
    imbalance_kind: str = argument(
        "data", Role.SETTING, f"order of the classes: {', '.join(KINDS)}", KINDS[0], late=True, resolved=True
    )
    imbalance_max: int | None = argument(
        "data",
        Role.SETTING,
        "training images of the most frequent class; default: those of the environment's smallest class",
        None,
        late=True,
        resolved=True,
    )
    holdout_fraction: float = argument("data", Role.SETTING, "share of samples in the out-splits", 0.2)
    splits: str | None = argument(
        "data",
        Role.RESULT,
        "CSV file of splits, as `data splits` writes it; default: random, by trial_seed",
        None,
        late=True,
        resolved=True,
    )
    output_dir: str = argument("files", Role.LAUNCH, "folder of the run", "train_output")
    skip_model_save: bool = argument("files", Role.LAUNCH, "write no model.pkl", False)
    save_model_every_checkpoint: bool = argument("files", Role.LAUNCH, "write model_step{step}.pkl too", False)
    save_predictions: str | None = argument(
        "files",
        Role.LAUNCH,
        f"{', '.join(PREDICTED)}: at each checkpoint write the predictions of these environments, and record their "
        "calibration error, Brier score and more (extras `metrics` and `parquet`)",
        None,
    )
    cache_dir: str | None = argument(
        "data", Role.DATA, "folder for decoded images; default: a hidden folder beside the benchmark", None
    )
    image_cache: str | None = argument(
        "data",
        Role.RESULT,
        f"keep images {' or '.join(CACHES)} as JPEG, a seventh of the size; default: by their number",
        None,
        late=True,
        resolved=True,
    )
    skip_corrupt: bool = argument("data", Role.RESULT, "skip corrupt images; every record lists them", False, late=True)
    partial_classes: bool = argument(
        "data",
        Role.SETTING,
        "folders of environments may lack classes that others have",
        False,
        late=True,
        resolved=True,
    )
    protocol: str = argument(
        "schedule", Role.SETTING, f"training protocol: {', '.join(PROTOCOLS)}", DOMAINBED, late=True
    )
    fixed_hparams: bool = argument(
        "algorithm",
        Role.SETTING,
        "all trials use the search draws of trial 0 (default: each trial draws, as in DomainBed)",
        False,
        late=True,
        resolved=True,
    )
    precision: str = argument(
        "algorithm",
        Role.SETTING,
        f"precision of the networks: {' or '.join(PRECISIONS)}; in a sweep also {AUTO}, the faster one",
        PRECISIONS[0],
        late=True,
    )
    compile: bool = argument(
        "algorithm", Role.RESULT, "compile the network: faster in long runs on a GPU", False, late=True
    )
    track: str | None = argument(
        "files",
        Role.LAUNCH,
        f"write losses, accuracies and speed to {', '.join(TRACKERS)} too (extras of these names)",
        None,
    )
    checkpoint_minutes: float = argument(
        "files", Role.LAUNCH, "minutes between two saved states; an interrupted run resumes from the last", 10.0
    )

    @property
    def values(self) -> dict[str, Any]:
        """The arguments by name. `dataclasses.asdict` would copy each of them, which takes seconds in a large sweep."""
        return {name: getattr(self, name) for name in FIELDS}

    @functools.cached_property
    def key(self) -> RunKey:
        """The key of this run in a sweep."""
        return RunKey.from_args(self.values)

    @property
    def command(self) -> str:
        """The command that trains this run."""
        return command_line(("python", "-m", "dg_batchformer", "train"), self.values)

    @property
    def data(self) -> DataArguments:
        """The arguments that select the data."""
        return DataArguments(
            self.dataset, self.data_dir, self.cache_dir, self.skip_corrupt, self.partial_classes, self.image_cache
        )

    def given_hparams(self) -> dict[str, Any]:
        """The hyper-parameters given by `hparams`."""
        return parse_hparams(self.hparams)


FIELDS: dict[str, dataclasses.Field[Any]] = {one.name: one for one in dataclasses.fields(RunArguments)}


def names_of(*roles: Role) -> list[str]:
    """The names of the arguments with one of these roles."""
    return [name for name, one in FIELDS.items() if one.metadata["role"] in roles]


def command_line(program: Sequence[str], arguments: Mapping[str, Any]) -> str:
    """The command for a program with these arguments; it omits None and False."""
    words = list(program)
    for name, value in sorted(arguments.items()):
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def training_envs(train_envs: Sequence[int] | None, test_envs: Sequence[int], n: int) -> list[int]:
    """The numbers of the training environments, of n: the given ones, else all that are not left out."""
    return list(train_envs or [i for i in range(n) if i not in test_envs])


def parse_hparams(text: str | None) -> dict[str, Any]:
    """The hyper-parameters in a JSON object; InputError if it is not one."""
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
