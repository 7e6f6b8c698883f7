# Each target installs its requirements into .venv; you need Python 3 (>= 3.10) with pip, and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint docs fidelity chaos bench results clean

demo: .venv/installed-plots
	$(BIN)/python -m dg_batchformer.sweeps.digits --output_dir demo --table selection.md

# The quick tests; test-all also has those that kill, wait, submit to a cluster or click through the page.
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

# make fidelity PEERS=DIR: DIR has checkouts of DomainBed, swad, BatchFormer, Transfer-Learning-Library and
# multi-domain-imbalance.
fidelity: .venv/installed-test
	$(if $(PEERS),,$(error PEERS is not set: expected a folder with checkouts of DomainBed, swad, BatchFormer, Transfer-Learning-Library and multi-domain-imbalance))
	$(BIN)/python -m pip install -q -e ".[fidelity]"
	PEERS=$(abspath $(PEERS)) $(BIN)/python -m pytest tests/fidelity

# If Python has no venv (Debian has a separate package for it), virtualenv from pip does the same; --target keeps it out
# of the system's packages.
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

# Two sweeps of 24 runs: one undisturbed, one with 60 killed processes, damaged files and a full disk.
chaos: .venv/installed-test
	$(BIN)/python tests/chaos.py --folder build/chaos-$$(date +%s)

# The benchmarks that this machine can run: make bench DATA=DIR DOMAINBED=CHECKOUT FOLDER=DIR (each may be missing).
bench: .venv/installed-test
	$(BIN)/python benchmarks/all.py $(if $(DATA),--data_dir $(DATA)) $(if $(DOMAINBED),--domainbed $(DOMAINBED)) $(if $(FOLDER),--folder $(FOLDER))

# The tables under results/, rebuilt from their records.
results: .venv/installed-test
	$(BIN)/python results/rebuild.py

clean:
	rm -rf .venv demo selection.md selection.html docs/_build build *.egg-info .mypy_cache .pytest_cache .ruff_cache
