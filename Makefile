# Each target sets up all that it needs in .venv; a machine needs Python 3 (>= 3.10) with pip, and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint docs fidelity chaos results clean

demo: .venv/installed-plots
	$(BIN)/python -m dg_batchformer.sweeps.digits --output_dir demo --table selection.md

# The quick tests; test-all has those that kill, wait, submit to a cluster or click through the page too.
test: .venv/installed-test
	$(BIN)/python -m pytest -n auto -m "not slow and not slurm and not browser"

test-all: .venv/installed-test
	$(BIN)/python -m pytest -n auto

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed
	$(BIN)/python -m pip install -q -e ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

# make fidelity PEERS=DIR: DIR holds checkouts of DomainBed, swad, BatchFormer and Transfer-Learning-Library.
fidelity: .venv/installed-test
	$(if $(PEERS),,$(error PEERS is not set: expected a folder with checkouts of DomainBed, swad, BatchFormer and Transfer-Learning-Library))
	$(BIN)/python -m pip install -q -e ".[fidelity]"
	PEERS=$(abspath $(PEERS)) $(BIN)/python -m pytest tests/fidelity

# Where Python comes without venv (Debian packs it apart), virtualenv from pip does the same; --target keeps it out of
# the system's own packages.
.venv/made:
	$(PYTHON) -m venv .venv || { rm -rf .venv && $(PYTHON) -m pip install --target build/virtualenv virtualenv \
	  && PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv .venv; }
	touch $@

.venv/installed: setup.py pyproject.toml | .venv/made
	$(BIN)/python -m pip install -e .
	touch $@

.venv/installed-plots: .venv/installed
	$(BIN)/python -m pip install -e ".[plots]"
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install -e ".[test]"
	touch $@

# Two sweeps of 24 runs: one left alone, one with processes killed 60 times, files torn and the disk filled.
chaos: .venv/installed-test
	$(BIN)/python tests/chaos.py --folder build/chaos-$$(date +%s)

# The tables under results/ anew from the records there.
results: .venv/installed-test
	$(BIN)/python results/rebuild.py

clean:
	rm -rf .venv demo selection.md selection.html docs/_build build *.egg-info .mypy_cache .pytest_cache .ruff_cache
