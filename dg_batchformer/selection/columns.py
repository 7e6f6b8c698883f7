"""Reads a `results.jsonl` in which nothing is amiss: a large sweep's table takes about the time that this takes."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from dg_batchformer.runs.records import LARGEST, Record, RunKey, args_problem
from dg_batchformer.selection.runs import Floats, Run, described

Step = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Accuracy = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclass(frozen=True, eq=False)
class Columns:
    """The records of a run by rising step: the last of them, all steps, and `accuracies`, (records, names), by name."""

    last: Record
    steps: npt.NDArray[np.int64]
    names: tuple[str, ...]
    accuracies: Floats


def read(content: bytes) -> Columns | None:
    """The columns of a file whose lines are records of one run, with the same names, all in range and in order.

    None of any other: `records.read` says what is amiss with it.
    """
    try:
        *lines, rest = content.split(b"\n")
        last = msgspec.json.decode(lines[-1])
        names, decoder, values_of = _shape(tuple(last))
        rows = decoder.decode_lines(content)
        first = bytes(rows[0].args)
        of_one_run = all(bytes(row.args) == first for row in rows) and not args_problem(last["args"])
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None
    steps = [row.step for row in rows]
    rising = all(step < following for step, following in itertools.pairwise(steps))
    a_line_each = len(rows) == len(lines) and not rest and all(line.endswith(b"}") for line in lines)
    if not (of_one_run and rising and a_line_each):
        return None
    accuracies = np.array(list(map(values_of, rows)), dtype=np.float64).reshape(len(rows), len(names))
    return Columns(last, np.array(steps, dtype=np.int64), names, accuracies)


@functools.lru_cache(maxsize=64)
def _shape(names: tuple[str, ...]) -> tuple[tuple[str, ...], Any, Callable[[Any], tuple[float, ...]]]:
    """The accuracies among the names of a record, and what decodes such a record and gives their values."""
    kinds = {"step": Step, **{name: Accuracy for name in names if name.endswith("_acc")}}
    fields = []
    for i, name in enumerate(names):  # which may be no identifiers
        own = name if name in ("step", "args") else f"field{i}"
        fields.append((own, kinds.get(name, msgspec.Raw), msgspec.field(name=name)))
    row = msgspec.defstruct("Row", fields, forbid_unknown_fields=True, gc=False)
    accuracies = [(name, own) for (own, *_), name in zip(fields, names, strict=True) if name.endswith("_acc")]
    values_of = operator.attrgetter(*(own for _, own in accuracies))
    return tuple(name for name, _ in accuracies), msgspec.json.Decoder(row), values_of


def run_of(key: RunKey, folder: str, columns: Columns, n_environments: int) -> Run:
    """The run that these columns are of."""

    def column(suffix: str) -> Floats:
        given, places = _places(columns.names, suffix, n_environments)
        values = columns.accuracies.take(places, axis=1)
        if len(given) < n_environments:
            values, found = np.full((len(columns.steps), n_environments), np.nan), values
            values[:, given] = found
        return values

    parts = column("in_acc"), column("out_acc"), column("in_macro_acc")
    return described(key, folder, columns.last, columns.steps, *parts)


@functools.lru_cache(maxsize=256)
def _places(names: tuple[str, ...], suffix: str, n_environments: int) -> tuple[list[int], npt.NDArray[np.intp]]:
    """The environments that have an accuracy of this kind, and where among all names it stands."""
    given = [i for i in range(n_environments) if f"env{i}_{suffix}" in names]
    return given, np.array([names.index(f"env{i}_{suffix}") for i in given], dtype=np.intp)
