"""Imports of benchmarks and examples, which only machines with the peers can run completely; and the notebook."""

import ast
import importlib
import os
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_resolve(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dg_batchformer":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.slow
def test_the_notebook_ends_with_the_table_and_a_verdict(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(ROOT / "examples" / "own_algorithm.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    *_, launched, table, verdict = [cell.outputs[-1] for cell in notebook.cells if cell.cell_type == "code"]
    assert launched.text.startswith("16 runs: 16 done, ")
    assert "| worst_environment:WorstEnvironment_BatchFormer |" in table.data["text/markdown"]
    assert verdict.text.startswith("BatchFormer on worst_environment:WorstEnvironment: ")
    assert " points, 95 % " in verdict.text
