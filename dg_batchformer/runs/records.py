"""The records of a run in DomainBed's format: their content, how to read them, and their problems."""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
import reprlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import msgspec

from dg_batchformer.data import path_free
from dg_batchformer.runs.details import LARGEST, Accuracy, Count, detail_type, type_problem
from dg_batchformer.runs.protocols import DOMAINBED

Record = dict[str, Any]
"""A line of `results.jsonl`."""


TEST = "test"
"""The part of an environment with its own test images, in the names of a record."""

NEEDED_ARGS = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")


class RunKey(msgspec.Struct, frozen=True, order=True):
    """The key of a run in a sweep: the arguments that determine its row and column in the table."""

    dataset: str
    algorithm: str
    test_envs: tuple[Count, ...]
    trial_seed: Count
    hparams_seed: Count
    protocol: str = DOMAINBED

    @classmethod
    def from_args(cls, args: dict[str, Any]) -> RunKey:
        """The key of a run with these arguments; msgspec.ValidationError if they are invalid."""
        key = msgspec.convert(args, cls)
        return msgspec.structs.replace(key, dataset=path_free(key.dataset))

    @property
    def is_printable(self) -> bool:
        """Whether a table can show its names."""
        return self.dataset.isprintable() and self.algorithm.isprintable() and self.protocol.isprintable()

    def __str__(self) -> str:
        protocol = f", protocol {self.protocol}" if self.protocol != DOMAINBED else ""
        return (
            f"{self.algorithm} on {self.dataset}, test_envs {list(self.test_envs)}, trial_seed {self.trial_seed}, "
            f"hparams_seed {self.hparams_seed}{protocol}"
        )


@dataclass(frozen=True)
class Problem:
    """A problem of a run or a record that is skipped: its kind, and a sentence."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


TORN = "incomplete lines"
FOREIGN = "invalid records"
OUT_OF_RANGE = "accuracy out of range"
REPEATED = "duplicate steps"


def is_name(value: Any) -> bool:
    """Whether a table can show this value as a name."""
    return isinstance(value, str) and value.isprintable()


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_name, value)) and len(set(value)) == len(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


DESCRIPTION: dict[str, Callable[[Any], bool]] = {
    "hparams": _is_object,
    "environments": _are_names,
    "backbone": is_name,
    "weights": is_name,
    "data_fingerprint": is_name,
    "versions": _is_object,
}
"""The metadata that a record may have, each with a check of its value."""


@dataclass(frozen=True, eq=False)
class About:
    """A complete record, the key of its run, and its number of environments.

    `is_usable` is false if the reported accuracies are not on test data: a run that leaves no environment out must have
    test splits, and no other run may.
    """

    record: Record
    key: RunKey
    n_environments: int

    @classmethod
    def from_record(cls, record: Record) -> About:
        return cls(record, RunKey.from_args(record["args"]), count_environments(record))

    @functools.cached_property
    def is_usable(self) -> bool:
        return (tested_part(self.record) == TEST) == (not self.key.test_envs)

    @functools.cached_property
    def invalid(self) -> list[str]:
        """The names of `DESCRIPTION` with an invalid value."""
        given = {name: self.record[name] for name in DESCRIPTION if self.record.get(name) is not None}
        return [name for name, value in given.items() if not DESCRIPTION[name](value)]


class Checkpoint(NamedTuple):
    """A record of a run, with its accuracies in a fixed order.

    `accuracies` in [0, 1] are by environment: on the in-splits (or the test splits), on the out-splits, and both
    averaged over classes (NaN if not recorded). `details` are the values of `DETAILS` by their full names.
    """

    step: int
    accuracies: tuple[float, ...]
    about: About
    details: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def from_record(cls, record: Record) -> Checkpoint:
        """The checkpoint of a record without a `record_problem`."""
        about = About.from_record(record)
        names = accuracy_names(about.n_environments, tested_part(record))
        details = {name: value for name, value in record.items() if detail_type(name)}
        return cls(record["step"], tuple(record.get(name, math.nan) for name in names), about, details)


def count_environments(names: Container[str]) -> int:
    """The number of environments with both accuracies among the names of a record, counted as in DomainBed."""
    n, tested = 0, tested_part(names)
    while f"env{n}_{tested}_acc" in names and f"env{n}_out_acc" in names:
        n += 1
    return n


def tested_part(names: Container[str]) -> str:
    """The part of the environments with the reported accuracies: "in", or "test" if there are test splits."""
    return TEST if f"env0_{TEST}_acc" in names else "in"


@functools.cache
def accuracy_names(n_environments: int, tested: str = "in") -> tuple[str, ...]:
    """The names of a record's accuracies, in their order."""
    parts = (f"{tested}_acc", "out_acc", f"{tested}_macro_acc", "out_macro_acc")
    return tuple(f"env{i}_{part}" for part in parts for i in range(n_environments))


def read(path: Path) -> tuple[list[Checkpoint], list[Problem]]:
    """The records of a `results.jsonl`, sorted by step, one for each step (the last written), and the problems.

    If all records belong to one run, they share the metadata of the last one.
    """
    content = path.read_bytes()
    return _read_whole(content) or _read_by_line(path, content)


def _read_by_line(path: Path, content: bytes) -> tuple[list[Checkpoint], list[Problem]]:
    by_step: dict[int, Checkpoint] = {}
    problems = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            problems.append(Problem(TORN, f"{path}:{number} is not a complete record: skipped"))
            continue
        if problem := record_problem(record):
            problems.append(Problem(problem.kind, f"{path}:{number} {problem}: skipped"))
            continue
        found = Checkpoint.from_record(record)
        if found.step in by_step:
            problems.append(Problem(REPEATED, f"{path}:{number} repeats step {found.step}: only the last counts"))
        by_step[found.step] = found
    return [by_step[step] for step in sorted(by_step)], problems


class TypedRecord(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A record for msgspec; subclasses have a field for every other name, with checked accuracies."""

    absent: ClassVar[float] = math.nan

    step: Count
    args: msgspec.Raw


def _read_whole(content: bytes) -> tuple[list[Checkpoint], list[Problem]] | None:
    """The records of one run, decoded at once; None if the file has any problem or several runs."""
    try:
        last = msgspec.json.decode(content[content.rfind(b"\n", 0, -1) + 1 :])
        decoder, accuracies_of, details_of = _typed(tuple(last))
        rows = decoder.decode_lines(content)
        args, about = rows[0].args, About.from_record(last)
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None
    has_a_line_each = content.count(b"\n") == len(rows) and content.endswith(b"}\n") and b"\r" not in content
    is_of_one_run = about.key.is_printable and all(row.args == args for row in rows)
    is_rising = all(row.step < following.step for row, following in itertools.pairwise(rows))
    if not (has_a_line_each and is_of_one_run and is_rising):
        return None
    if details_of is None:  # most records have none: this is faster
        return [Checkpoint(row.step, accuracies_of(row), about) for row in rows], []
    return [Checkpoint(row.step, accuracies_of(row), about, details_of(row)) for row in rows], []


@functools.lru_cache(maxsize=64)
def _typed(
    names: tuple[str, ...],
) -> tuple[Any, Callable[[Any], tuple[float, ...]], Callable[[Any], dict[str, Any]] | None]:
    """The decoder of records with these names, and functions that return a record's accuracies and its details."""
    own = {name: f"field{i}" for i, name in enumerate(names) if name not in ("step", "args")}
    fields = [
        (attribute, _type_of(name), msgspec.field(name=name))
        for name, attribute in own.items()  # a name may not be an identifier
    ]
    record = msgspec.defstruct("Typed", fields, bases=(TypedRecord,), forbid_unknown_fields=True, gc=False)
    n = count_environments(names)
    accuracies = [own.get(name, "absent") for name in accuracy_names(n, tested_part(names))]
    details = {name: attribute for name, attribute in own.items() if detail_type(name)}
    decoder = msgspec.json.Decoder(record)
    if not details:
        return decoder, operator.attrgetter(*accuracies), None
    return decoder, operator.attrgetter(*accuracies), lambda row: {k: getattr(row, own) for k, own in details.items()}


def _type_of(name: str) -> Any:
    return Accuracy if name.endswith("_acc") else detail_type(name) or msgspec.Raw


def args_problem(args: Any) -> Problem | None:
    """Why the arguments of a run are invalid, or None."""
    if not isinstance(args, dict) or any(name not in args for name in NEEDED_ARGS):
        return Problem(FOREIGN, f"has no args ({', '.join(NEEDED_ARGS)})")
    try:
        key = msgspec.convert(args, RunKey)
    except msgspec.ValidationError:
        key = None
    if key is None or not key.is_printable:
        return Problem(FOREIGN, "has invalid args")
    return None


def record_problem(record: Any) -> Problem | None:
    """Why a record is invalid, or None."""
    if not isinstance(record, dict) or not (type(step := record.get("step")) is int and 0 <= step <= LARGEST):
        return Problem(FOREIGN, "has no step")
    if problem := args_problem(record.get("args")):
        return problem
    for name, value in record.items():
        if name.endswith("_acc") and not (type(value) in (int, float) and 0 <= value <= 1):
            return Problem(OUT_OF_RANGE, f"has {name} {reprlib.repr(value)} (expected 0 to 1)")
        if (kind := detail_type(name)) and (why := type_problem(value, kind)):
            return Problem(OUT_OF_RANGE, f"has {name} {reprlib.repr(value)} ({why})")
    return None
