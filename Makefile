# Each target sets up what it needs. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
# How many processes share the tests.
JOBS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test attacks check bench conformance clean

.venv/.core: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/.dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ .venv/.core

demo: .venv/.core
	$(BIN)/med-copilot demo

test: .venv/.dev
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

attacks: .venv/.dev
	$(BIN)/pytest tests/sandbox/attacks

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/.bench: .venv/.dev
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@

bench: .venv/.bench
	$(BIN)/python -m bench

conformance: .venv/.dev
	$(BIN)/python -m tests.conformance

clean:
	rm -rf .venv
