"""Imports run one way: each room uses its own floor and those below."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Room to floor. Two of one floor may use each other but for jobs and selection; training runs algorithms.
FLOORS = {
    "errors": 0,
    "plugins": 0,
    "machine": 0,
    "hparams": 1,
    "batchformer": 1,
    "contracts": 1,
    "weight_formats": 1,
    "cut": 1,
    "weights": 1,
    "backbones": 1,
    "networks": 1,
    "data": 1,
    "registry": 2,
    "tllib": 2,
    "algorithms": 3,
    "runs": 3,
    "training": 4,
    "charts": 5,
    "jobs": 5,
    "selection": 5,
    "paper": 5,
    "commands": 6,
    "cli": 6,
    "domainbed": 6,
    "within": 6,
    "sweeps": 7,
}
FOLDERS = {"dg_batchformer": ROOT / "dg_batchformer", "algorithms": ROOT / "algorithms", "sweeps": ROOT / "sweeps"}


def sources():
    for outer, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            room = parts[0] if outer == "dg_batchformer" else outer
            if room not in ("__init__", "__main__"):
                yield room, path


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            parts = node.module.split(".")
            if parts == ["dg_batchformer"]:
                yield from (alias.name for alias in node.names if alias.name in FLOORS)
            elif parts[0] == "dg_batchformer":
                yield parts[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("dg_batchformer."):
                    yield alias.name.split(".")[1]


def test_every_room_has_a_floor():
    assert {room for room, _ in sources()} == set(FLOORS)


def test_imports_go_down():
    upward = [
        f"{path.relative_to(ROOT)} imports {other}"
        for room, path in sources()
        for other in imported_rooms(path)
        if FLOORS[other] > FLOORS[room] or {room, other} == {"jobs", "selection"}
    ]
    assert upward == []


def modules():
    """Files by the name of their module as installed, which is a package's for its `__init__`."""
    for outer, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            room = ["dg_batchformer"] if outer == "dg_batchformer" else ["dg_batchformer", outer]
            yield ".".join([*room, *parts]).removesuffix(".__init__"), path


def imported_modules(name, path, known):
    """The modules that a file imports anywhere, also in functions and for types."""
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (full if (full := f"{source}.{alias.name}") in known else source for alias in node.names)


def test_modules_import_in_no_circle():
    """But a package may gather its own files."""
    known = dict(modules())
    imported = {name: {*imported_modules(name, path, known)} for name, path in known.items()}
    TopologicalSorter(
        {name: {one for one in others if not one.startswith(f"{name}.")} for name, others in imported.items()}
    ).prepare()


def test_files_stay_short():
    """A file is read in one sitting."""
    long = [str(path.relative_to(ROOT)) for _, path in sources() if len(path.read_text().splitlines()) > 300]
    assert long == []
