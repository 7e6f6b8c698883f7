# Each target sets up all that it needs in .venv; a machine needs Python 3 (>= 3.10) with pip, and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/python -m dg_batchformer.sweeps.digits --output_dir demo --table selection.md

test: .venv/installed-test
	$(BIN)/python -m pytest

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Where Python comes without venv (Debian packs it apart), virtualenv from pip does the same.
.venv/bin/python:
	$(PYTHON) -m venv .venv || { $(PYTHON) -m pip install virtualenv && $(PYTHON) -m virtualenv --clear .venv; }

.venv/installed: setup.py pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -e .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install -e ".[test]"
	touch $@

clean:
	rm -rf .venv demo selection.md build *.egg-info .mypy_cache .pytest_cache .ruff_cache
