"""The arguments of a run: DomainBed's flags, each declared once with its role, its default and its help."""

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from dg_batchformer.errors import InputError
from dg_batchformer.runs.protocols import DOMAINBED, PROTOCOLS
from dg_batchformer.runs.records import RunKey

PRECISIONS = ("fp32", "bf16")


class DataArguments(NamedTuple):
    """The arguments of `load_dataset`; runs that have the same ones share their data."""

    name: str
    data_dir: str | None
    cache_dir: str | None
    skip_corrupt: bool


class Role(Enum):
    """What an argument is for; what depends on arguments (flags, job ids, saved states, tables) derives from it."""

    VARIED = "says which run of a sweep it is"
    SETTING = "changes the result; a table never mixes two values"
    RESULT = "changes the result"
    DATA = "says where the data lie"
    LAUNCH = "concerns this launch only"


IDENTITY = (Role.VARIED, Role.SETTING, Role.RESULT)
"""Roles of the arguments that make two runs different runs."""


def argument(role: Role, help: str, default: Any, *, late: bool = False, resolved: bool = False) -> Any:
    """A field of `RunArguments`.

    A `late` argument, added after the first sweeps, enters a job id only where it differs from its default, so that
    older ids stay. A `resolved` one enters the identity of a saved state not as given but as what it resolves to.
    """
    metadata = {"role": role, "help": help, "late": late, "resolved": resolved}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunArguments:
    """The arguments of one run; None means the default of the dataset or of the protocol."""

    dataset: str = argument(Role.VARIED, "a benchmark, or folder:PATH", "RotatedDigits", resolved=True)
    algorithm: str = argument(Role.VARIED, "such as CORAL_BatchFormer, or module:Class", "ERM")
    test_envs: list[int] = argument(Role.VARIED, "environments left out", [0])
    data_dir: str | None = argument(Role.DATA, "folder in which the benchmarks' folders lie", None)
    hparams: str | None = argument(
        Role.RESULT, "JSON object of the hyper-parameters that differ from their defaults", None, resolved=True
    )
    hparams_seed: int = argument(Role.VARIED, "0: the defaults, else a row of the search", 0)
    trial_seed: int = argument(Role.VARIED, "seeds the splits and the search", 0)
    seed: int = argument(Role.VARIED, "seeds everything else", 0)
    steps: int | None = argument(Role.SETTING, "updates of a run; default: the dataset's", None, resolved=True)
    checkpoint_freq: int | None = argument(
        Role.SETTING, "steps between evaluations; default: the dataset's", None, resolved=True
    )
    holdout_fraction: float = argument(Role.SETTING, "share of the out-splits", 0.2)
    output_dir: str = argument(Role.LAUNCH, "folder of the run", "train_output")
    skip_model_save: bool = argument(Role.LAUNCH, "write no model.pkl", False)
    save_model_every_checkpoint: bool = argument(Role.LAUNCH, "write model_step{step}.pkl too", False)
    cache_dir: str | None = argument(
        Role.DATA, "folder of the decoded images; default: a hidden folder beside the benchmark's", None
    )
    skip_corrupt: bool = argument(Role.RESULT, "leave corrupt images out, and say so in every record", False, late=True)
    protocol: str = argument(Role.SETTING, f"what is held fixed: {', '.join(PROTOCOLS)}", DOMAINBED, late=True)
    fixed_hparams: bool = argument(
        Role.SETTING,
        "all trials take trial 0's draws of the search (default: each draws its own, as in DomainBed)",
        False,
        late=True,
        resolved=True,
    )
    precision: str = argument(Role.SETTING, f"of the networks: {' or '.join(PRECISIONS)}", PRECISIONS[0], late=True)
    compile: bool = argument(Role.RESULT, "compile the network, which pays in long runs on a GPU", False, late=True)
    checkpoint_minutes: float = argument(
        Role.LAUNCH, "minutes between two saved states, from which an interrupted run resumes", 10.0
    )

    @property
    def key(self) -> RunKey:
        """Which run of a sweep this is."""
        return RunKey.from_args(dataclasses.asdict(self))

    @property
    def command(self) -> str:
        """The command that trains this run."""
        return command_line(("python", "-m", "dg_batchformer", "train"), dataclasses.asdict(self))

    @property
    def data(self) -> DataArguments:
        """What names the run's data."""
        return DataArguments(self.dataset, self.data_dir, self.cache_dir, self.skip_corrupt)

    def given_hparams(self) -> dict[str, Any]:
        """The hyper-parameters in `hparams`."""
        return parse_hparams(self.hparams)


FIELDS: dict[str, dataclasses.Field[Any]] = {one.name: one for one in dataclasses.fields(RunArguments)}


def names_of(*roles: Role) -> list[str]:
    """The arguments that have one of these roles."""
    return [name for name, one in FIELDS.items() if one.metadata["role"] in roles]


def command_line(program: Sequence[str], arguments: Mapping[str, Any]) -> str:
    """The command that runs a program with these arguments by name; those that are None or False are left out."""
    words = list(program)
    for name, value in sorted(arguments.items()):
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def parse_hparams(text: str | None) -> dict[str, Any]:
    """The hyper-parameters of a JSON object."""
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
