# The two commands of the README. Each does all set-up first; a second call has nothing left to set up.
#   make search [ARGS="--budget 200 --seed 1"]
#   make test   [TESTS="tests/unit -k journal"]
# Variables: PYTHON (3.11 or newer), VENV, TORCH_INDEX (an index to take torch from, e.g. PyTorch's CPU builds).

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=
TESTS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ALL := collm_nas data_gen finetune inference eval examples tests

# Several processes share the cores in tests: one thread each, and no network from any library.
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help search test lint format types layers pytest clean

help:
	@sed -n '2,4s/^# *//p' Makefile

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(if $(TORCH_INDEX),$(PIP) install -c constraints.txt --index-url $(TORCH_INDEX) torch)
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

search: $(VENV)/.installed
	$(BIN)/collm-nas search $(ARGS)

test: lint types layers pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check $(ALL)
	$(BIN)/ruff format --check $(ALL)

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix $(ALL)
	$(BIN)/ruff format $(ALL)

types: $(VENV)/.installed-dev
	$(BIN)/mypy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

pytest: $(VENV)/.installed-dev
	$(BIN)/pytest -n $(WORKERS) $(TESTS)

clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build
