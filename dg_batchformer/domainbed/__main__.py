"""`python -m dg_batchformer.domainbed train|sweep|collect ...`: DomainBed's scripts with this package's algorithms."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from dg_batchformer.cli import guarded
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.registry import split_name
from dg_batchformer.runs.arguments import parse_hparams

from .registration import register
from .scripts import SCRIPTS, run_script

USAGE = f"usage: python -m dg_batchformer.domainbed {{{','.join(SCRIPTS)}}} [flags of DomainBed's script, or --help]"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of DomainBed's scripts; wrong input ends it with status 2 and the reason."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name not in SCRIPTS:
        print(USAGE, file=sys.stdout if name in ("-h", "--help") else sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    return guarded(lambda: run(name, rest))


def run(name: str, argv: Sequence[str]) -> int:
    """Registers, looks whether the algorithms are sound, and runs the script."""
    register()
    parser = argparse.ArgumentParser(add_help=False)
    # Whatever DomainBed's flag is called of these, and as much of it as a user types.
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
    """InputError, before anything is launched, for names that are not known and variants that cannot be."""
    algorithms = importlib.import_module("domainbed.algorithms")
    default_hparams = importlib.import_module("domainbed.hparams_registry").default_hparams
    known = [name for name, value in vars(algorithms).items() if hasattr(value, "update") and hasattr(value, "predict")]
    problems = []
    for name in names:
        if name not in known:
            problems.append(unknown("algorithm", name, known))
        elif split_name(name)[1]:
            try:
                # What cannot be wrapped cannot be on small images either, where trying costs nothing.
                given = {**default_hparams(name, "RotatedMNIST"), **hparams}
                getattr(algorithms, name)((2, 28, 28), 10, 3, given)
            except InputError as error:
                problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))


if __name__ == "__main__":
    sys.exit(main())
