"""`python -m dg_batchformer.domainbed train|sweep|collect ...`: DomainBed's scripts with this package's algorithms."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from dg_batchformer.cli import guarded
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.registry import split_name

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
    check_algorithms(named_algorithms(argv))
    run_script(name, argv)
    return 0


def named_algorithms(argv: Sequence[str]) -> list[str]:
    """The algorithms that a command names, under `--algorithms` or as much of it as DomainBed's flag is."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algorithms", nargs="+", default=[])
    found: list[str] = parser.parse_known_args(argv)[0].algorithms
    return found


def check_algorithms(names: Sequence[str]) -> None:
    """InputError, before anything is launched, for names that are not known and variants that cannot be."""
    algorithms = importlib.import_module("domainbed.algorithms")
    default_hparams = importlib.import_module("domainbed.hparams_registry").default_hparams
    problems = []
    for name in names:
        if not hasattr(algorithms, name):
            known = [known for known, value in vars(algorithms).items() if hasattr(value, "update")]
            problems.append(unknown("algorithm", name, known))
        elif split_name(name)[1]:
            try:
                # What cannot be wrapped cannot be on small images either, where trying costs nothing.
                getattr(algorithms, name)((2, 28, 28), 10, 3, default_hparams(name, "RotatedMNIST"))
            except InputError as error:
                problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))


if __name__ == "__main__":
    sys.exit(main())
