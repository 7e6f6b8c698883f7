"""Where the peers' checkouts are, and how single definitions are taken from their scripts."""

from __future__ import annotations

import ast
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

PEERS = os.environ.get("PEERS", "")


def checkout(name: str) -> Path:
    """Folder of a peer's checkout, or a skip that names it."""
    path = Path(PEERS, name)
    if not PEERS or not path.is_dir():
        pytest.skip(f"needs a checkout of {name} in the folder that PEERS names")
    return path


def one_definition(path: Path, name: str, **names: object) -> Any:
    """One class or function of a script whose other imports are not to be had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some strings have escapes that new Pythons warn of
        tree = ast.parse(path.read_text())
    (node,) = [node for node in tree.body if getattr(node, "name", "") == name]
    # Annotations name what is not imported here.
    lazily = ast.parse("from __future__ import annotations").body
    namespace = dict(names)
    exec(compile(ast.Module([*lazily, node], []), str(path), "exec"), namespace)
    return namespace[name]
