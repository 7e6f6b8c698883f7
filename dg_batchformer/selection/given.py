"""The hyper-parameters that runs were given, which tell rows of one algorithm apart and label them."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dg_batchformer.registry import in_order

NETWORK_HPARAMS = ("backbone", "weights", "resnet18", "resnet50_augmix", "freeze_backbone", "freeze_bn")
"""hparams that say what network is trained, so that they are the setting's and not the algorithm's."""

NONE_GIVEN = "{}"
"""What `given_hparams` says of a run that was given none."""


class RowKey(NamedTuple):
    """A row of a table: an algorithm and the hparams that it was given, as `given_hparams` says."""

    algorithm: str
    given: str = NONE_GIVEN


def given_hparams(args: Mapping[str, Any]) -> str:
    """The hparams that a run was given, but for those of the network, as JSON with sorted names."""
    return _given(args)[0]


def given_network(args: Mapping[str, Any]) -> str:
    """Those of the network."""
    return _given(args)[1]


def _given(args: Mapping[str, Any]) -> tuple[str, str]:
    given = args.get("hparams")
    return _divided(given if isinstance(given, str) and given else json.dumps(str(given)) if given else NONE_GIVEN)


@functools.lru_cache(maxsize=1024)
def _divided(text: str) -> tuple[str, str]:
    """The hparams of the algorithm and those of the network."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = text
    if not isinstance(given, dict):
        return json.dumps(given), NONE_GIVEN
    of_network = {name: given[name] for name in sorted(given) if name in NETWORK_HPARAMS}
    return json.dumps({name: given[name] for name in sorted(given) if name not in of_network}), json.dumps(of_network)


def by_name(given: str) -> dict[str, str]:
    """Each hparam that a row was given, its value as JSON: 1 and 1.0 are two values, as they are two rows.

    What is no JSON object is the value of "", which is no hparam's name.
    """
    values = json.loads(given)
    return {name: json.dumps(value) for name, value in values.items()} if isinstance(values, dict) else {"": given}


def given_to_all(rows: Iterable[RowKey]) -> dict[str, str]:
    """The hparams that all of some rows were given alike."""
    found = [set(by_name(row.given).items()) for row in rows]
    return dict(set.intersection(*found)) if found else {}


def in_words(given: Mapping[str, str]) -> str:
    """Given hparams as labels and captions name them."""
    return ", ".join(f"{name} {value}" if name else value for name, value in sorted(given.items()))


def given_in_words(rows: Sequence[RowKey]) -> str:
    """What all rows were given, and beyond that what all of some algorithms' rows were, as no label says it."""
    of_all = given_to_all(rows)
    found = {"all runs": in_words(of_all)} if of_all else {}
    by_words: dict[str, list[str]] = defaultdict(list)
    for algorithm in dict.fromkeys(row.algorithm for row in rows):
        alike = given_to_all(row for row in rows if row.algorithm == algorithm)
        by_words[in_words({name: value for name, value in alike.items() if name not in of_all})].append(algorithm)
    found |= {", ".join(algorithms): words for words, algorithms in by_words.items() if words}
    return "; ".join(f"{who} given {what}" for who, what in found.items())


def labels(rows: Iterable[RowKey]) -> dict[RowKey, str]:
    """What rows are called, by what sets an algorithm's apart, in the order of a table.

    Of an algorithm's rows those come first that were given the fewest; of these the shortest, so that 8 precedes 16.
    """
    rows = list(rows)
    found = {}
    for row in rows:
        alike = given_to_all(other for other in rows if other.algorithm == row.algorithm)
        own = {name: value for name, value in by_name(row.given).items() if name not in alike}
        found[row] = f"{row.algorithm} ({in_words(own)})" if own else row.algorithm
    # Odd names of hparams can make two rows sound alike.
    said = list(found.values())
    found = {row: label if said.count(label) == 1 else f"{row.algorithm} {row.given}" for row, label in found.items()}
    order = in_order([row.algorithm for row in rows])
    rows.sort(key=lambda row: (order.index(row.algorithm), len(by_name(row.given)), len(row.given), row.given))
    return {row: found[row] for row in rows}
