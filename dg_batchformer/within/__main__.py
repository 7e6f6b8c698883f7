"""Runs a script of another code base: python -m dg_batchformer.within CHECKOUT SCRIPT [flags of the script]"""

from __future__ import annotations

import argparse
import importlib.util
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dg_batchformer.cli import guarded
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.registry import split_name
from dg_batchformer.within import DOMAINBED, CodeBase, code_base_of, register

USAGE = "usage: python -m dg_batchformer.within CHECKOUT SCRIPT [flags of the script], SCRIPT a file or a module"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; invalid input ends it with status 2 and a message."""
    given = list(sys.argv[1:] if argv is None else argv)
    if len(given) < 2 or given[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if given[:1] in (["-h"], ["--help"]) else sys.stderr)
        return 0 if given[:1] in (["-h"], ["--help"]) else 2
    checkout, script, *rest = given
    return guarded(lambda: run(Path(checkout).resolve(), script, rest))


def run(checkout: Path, script: str, argv: Sequence[str]) -> int:
    """Registers the variants in the code base of a checkout, checks the algorithm's name, and runs a script."""
    code_base = code_base_of(checkout)
    sys.path.insert(0, str(checkout))
    with_old_names_of_numpy()
    if code_base is DOMAINBED and (name := of_domainbed(script)):
        from dg_batchformer.domainbed.__main__ import run as run_domainbed

        return run_domainbed(name, argv)
    is_file = script.endswith(".py")
    if not ((checkout / script).is_file() if is_file else is_module(script)):
        raise InputError(f"{checkout} has no script {script}: expected a file (train.py) or a module (package.train)")
    algorithms, *_ = register(code_base)
    check_algorithm(code_base, algorithms, argv)
    sys.argv = [str(checkout / script) if is_file else script, *argv]
    if is_file:
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(script, run_name="__main__", alter_sys=True)
    return 0


def of_domainbed(script: str) -> str | None:
    """The name in `dg_batchformer.domainbed` of one of DomainBed's scripts."""
    from dg_batchformer.domainbed.__main__ import SCRIPTS

    module = script.removesuffix(".py").replace("/", ".")
    return next((name for name, own in SCRIPTS.items() if module == f"domainbed.scripts.{own}"), None)


def is_module(name: str) -> bool:
    """Whether a module can be found."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def check_algorithm(code_base: CodeBase, algorithms: Any, argv: Sequence[str]) -> None:
    """Raises InputError if the script's --algorithm is not known there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algorithm")
    name = parser.parse_known_args(argv)[0].algorithm
    if name is None or isinstance(getattr(algorithms, name, None), type):
        return
    if unusable := [one for one in split_name(name)[1] if one not in code_base.modifiers]:
        raise InputError(
            f"algorithm {name!r} has {unusable[0]}, for which this script gives no validation losses: expected a name "
            "without it; SWAD's own trainer averages weights itself (swad in its config.yaml)"
        )
    known = [one for one, value in vars(algorithms).items() if hasattr(value, "update") and hasattr(value, "predict")]
    raise InputError(unknown("algorithm", name, known))


def with_old_names_of_numpy() -> None:
    """Gives NumPy the names `int`, `float` and `bool` again, which the code bases use and NumPy 1.24 removed."""
    for name, kind in (("int", int), ("float", float), ("bool", bool)):
        if name not in vars(np):
            setattr(np, name, kind)


if __name__ == "__main__":
    sys.exit(main())
