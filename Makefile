# make reproduce: the paper's models and tables on the synthetic twin.   make test: the checks.   Both set up .venv first.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# what two cores without AVX-512 train in minutes
SMALL := data.scale=0.04 model.shape.dim=128 model.shape.hidden_dim=512

.PHONY: reproduce test lint test-gpu test-faults clean

reproduce: .venv/run
	$(BIN)/kjcm reproduce $(SMALL)

test: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-gpu: .venv/dev
	$(BIN)/python -m pytest -m gpu

test-faults: .venv/dev
	$(BIN)/python -m pytest -m fault

.venv/python:
	@test -n "$(PYTHON)" || { echo "kjcm needs Python 3.11, 3.12 or 3.13 with venv; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

.venv/run: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/dev: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist
