# On a fresh clone each of these does everything: `make demo` makes .venv, installs, and runs the whole product on drawn
# exams; `make test` makes .venv, installs, lints, type-checks and runs every test; `make quick` lints and runs the fast
# tests, while you work.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_STAMP := .venv/.installed-train
OUT ?= $(if $(FULL),demo-full,demo)
# A process per core, each with whole files; those with slow tests come first (tests/conftest.py), so that no core idles
# at the end.
PYTEST := $(BIN)/pytest -n auto --dist loadscope --no-loadscope-reorder

.PHONY: test quick lint types pytest install clean bench demo tools

test: lint types pytest

quick: lint
	$(PYTEST) -m 'not slow'

install: $(STAMP)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; run: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(STAMP) $(DEMO_STAMP)

$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	@echo 'Installing into .venv (torch is large: some minutes on a slow line)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
	touch $(DEMO_STAMP)

# make demo [FULL=1] [OUT=folder]: minutes with one training run; FULL=1 draws a larger archive and trains three times
demo: $(DEMO_STAMP)
	$(BIN)/sono-curate demo $(OUT) $(if $(FULL),--full)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

pytest: $(STAMP) tools
	$(PYTEST)

# What is not a Python package: a browser, an independent validator of DICOM files, a reverse proxy, and the language file
# without which no text can be shown to be gone. Tests that need a program are skipped, and say so, where it could not be
# installed.
tools:
	@command -v chromium >/dev/null && command -v dciodvfy >/dev/null && command -v nginx >/dev/null \
	  && ls /usr/share/tesseract-ocr/*/tessdata/eng.traineddata >/dev/null 2>&1 || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
	  && apt-get install -qq -y chromium dicom3tools nginx-light tesseract-ocr-eng >/dev/null; } \
	  || echo 'To run every test: apt-get install chromium dicom3tools nginx-light tesseract-ocr-eng'

# make bench IMAGES=folder
bench: $(STAMP)
	test -n "$(IMAGES)" || { echo 'name a folder of images: make bench IMAGES=folder'; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/ingest_qc.py $(IMAGES)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
