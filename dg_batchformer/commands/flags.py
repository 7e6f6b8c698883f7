"""What commands share: their description, and the flags of a run, which derive from the fields of `RunArguments`.

Flags that DomainBed has keep its names.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from dg_batchformer.runs.arguments import FIELDS, RunArguments


@dataclass(frozen=True)
class Command:
    """A command: `add` adds its flags to a parser, `run` takes them and returns the exit status.

    Its help ends with two `examples`.
    """

    name: str
    summary: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    examples: Sequence[str]


def arguments_of(cls: type, parsed: argparse.Namespace) -> dict[str, Any]:
    """The parsed flags that are fields of a dataclass."""
    return {one.name: getattr(parsed, one.name) for one in dataclasses.fields(cls) if hasattr(parsed, one.name)}


def run_flags(
    p: argparse.ArgumentParser, names: Sequence[str], **changed: dict[str, Any]
) -> dict[str, argparse._ArgumentGroup]:
    """Adds the flags of a run's arguments and returns their groups; `changed` replaces settings of some."""
    types = get_type_hints(RunArguments)
    titles = dict.fromkeys(FIELDS[name].metadata["group"] for name in names)
    groups = {title: p.add_argument_group(title) for title in titles}
    for name in names:
        default = getattr(RunArguments(), name)
        flag: dict[str, Any] = {"help": FIELDS[name].metadata["help"], "default": default}
        if types[name] is bool:
            flag["action"] = "store_true"
        elif list[int] in (types[name], *get_args(types[name])):
            flag |= {"type": int, "nargs": "+"}
        else:
            flag["type"] = (*get_args(types[name]), types[name])[0]  # of X | None it is X
        if default is not None and default is not False:
            flag["help"] += f" (default {' '.join(map(str, default)) if isinstance(default, list) else default})"
        groups[FIELDS[name].metadata["group"]].add_argument(f"--{name}", **{**flag, **changed.get(name, {})})
    return groups
