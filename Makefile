# `make test` does everything on a fresh clone: it makes .venv, installs, lints, type-checks and tests.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: test lint types pytest install clean bench

test: lint types pytest

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; run: make PYTHON=python3.12 test")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

pytest: $(STAMP)
	$(BIN)/pytest

# make bench IMAGES=folder
bench: $(STAMP)
	test -n "$(IMAGES)" || { echo 'name a folder of images: make bench IMAGES=folder'; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/ingest_qc.py $(IMAGES)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
