# `make demo` and `make test` need git, make and Python >= 3.10; everything else is installed into .venv, once.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= plots,extra,zoo,tests,docs
# Index that torch comes from, for example https://download.pytorch.org/whl/cpu; empty: what pip is configured to use.
TORCH_INDEX ?=
TORCH = torch==2.13.0
PYTEST_ARGS ?= -n 2 --dist worksteal --durations=15

BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
CODE := sb3_tom tests examples benchmarks docs setup.py

.DEFAULT_GOAL := help
.PHONY: help venv demo test pytest expensive zoo docs lint format type commit-checks clean

help:
	@echo "make demo            set up, train DHMBPO with TOM weights until InvertedPendulum-v5 is solved; results in runs/demo/"
	@echo "make test            set up, run the test suite"
	@echo "make expensive       set up, run the long tests that 'make test' leaves out"
	@echo "make zoo             of those, the ones of the RL Zoo: its commands after both kinds of install, parallel searches"
	@echo "make docs            set up, build the documentation into docs/_build/html; a warning is an error"
	@echo "make lint|type       check style and the direction of imports | types"
	@echo "make format          format the code and sort imports"
	@echo "make commit-checks   format, lint, type and test"
	@echo "make clean           remove .venv and build folders"

# torch comes first and by its exact pin: a machine that holds the CPU build then uses it, instead of fetching CUDA wheels.
# From an index of its own it comes alone: that index need not have the pinned versions of what torch depends on.
$(STAMP): setup.py constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX)) -c constraints.txt $(TORCH)
	$(PIP) install -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

venv: $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# One torch thread in each of pytest's processes: two cores are shared without oversubscription.
test pytest: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not expensive" $(PYTEST_ARGS)

expensive: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m expensive $(PYTEST_ARGS)

# The longest one is named first, so that it does not start last.
zoo: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m expensive tests/zoo/test_install.py tests/zoo/test_[!i]*.py $(PYTEST_ARGS)

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

lint: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff check --select I --fix $(CODE)
	$(BIN)/ruff format $(CODE)

type: $(STAMP)
	$(BIN)/mypy

commit-checks: format lint type test

clean:
	rm -rf $(VENV) build dist docs/_build docs/_generated sb3_tom.egg-info
