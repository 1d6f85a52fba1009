# prunelab: `make help` lists the targets. Each one sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup lab replay test nbval fuzz faults coverage bench gpu-bench docs lint format notebooks stills lock matrix audit clean
N ?= 10000
MATRIX ?= outside.py pruning training models export
PYTHONS ?= 3.11 3.12 3.13
TORCHES ?= torch==2.11.* torch
STRICT := notebooks/02_*|notebooks/04_*

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with the pinned environment and the package

$(READY): binder/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "prunelab needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv || echo "uv cannot be installed here; going on with pip"
	if test -x $(BIN)/uv; then \
	  $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes -r binder/requirements.txt && \
	  $(BIN)/uv pip install --python $(BIN)/python --no-deps -e .; \
	else \
	  $(BIN)/python -m pip install --require-hashes -r binder/requirements.txt && \
	  $(BIN)/python -m pip install --no-deps -e .; \
	fi
	@touch $@

lab: $(READY) ## open JupyterLab on the lab notebook
	$(BIN)/prunelab lab

replay: $(READY) ## run the main job: train, prune, retrain and report a small network on digits
	$(BIN)/prunelab replay digits-quick

test: $(READY) lint docs ## run every check: lint, types, links, tests, notebooks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:nbval -n 2 --dist loadfile --no-loadscope-reorder \
	  --durations 15 tests/utils tests/browser tests/notebooks tests/experiments tests
	@$(MAKE) --no-print-directory nbval

nbval: $(READY) ## run every notebook, two at a time, and compare what carries the lesson; all outputs of two
	@export PRUNELAB_RUNS=$$(mktemp -d) OMP_NUM_THREADS=1; \
	for path in notebooks/replay.ipynb $(filter-out notebooks/replay.ipynb,$(sort $(wildcard notebooks/*.ipynb notebooks/*/*.ipynb))); do case $$path in $(STRICT)) echo "--nbval $$path";; *) echo "--nbval-lax $$path";; esac; done \
	  | xargs -P 2 -L 1 $(BIN)/python -m pytest -q --nbval-current-env

fuzz: $(READY) ## prune N=10000 random networks and hold each against the oracle; N random files of each kind
	PRUNELAB_FUZZ=$(N) $(BIN)/python -m pytest -p no:nbval tests/graph/test_fuzz.py tests/*/test_fuzzed*.py

faults: $(READY) ## stop, kill, fill, damage whatever can be, 20 times each; the same must come out; writes data/faults.md
	PRUNELAB_FAULTS=20 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:nbval tests/faults

coverage: $(READY) ## prune every network of torchvision (LIBRARIES="timm …": of those that are installed), check it, write data/coverage.csv
	$(BIN)/python tests/graph/$(if $(LIBRARIES),libraries.py $(LIBRARIES),coverage.py)

bench: $(READY) ## time us beside what one would otherwise use
	$(BIN)/python tests/benchmarks

gpu-bench: $(READY) ## on a GPU: training and sensitivity, the floor of a step, trainings side by side
	$(BIN)/python tests/benchmarks training sensitivity --device cuda
	$(BIN)/python tests/benchmarks/floor.py --device cuda --compiled
	$(BIN)/python tests/benchmarks/side_by_side.py --device cuda --counts 1 2 4 8

docs: $(READY) ## build the site in build/docs; runs and fetches nothing
	@rm -rf build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees -c docs . build/docs
	@echo "open build/docs/index.html"

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

stills: $(READY) ## take the pictures of the lab anew, in Chromium
	OMP_NUM_THREADS=1 $(BIN)/python tests/browser/stills.py

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(READY) ## run every notebook again and store its outputs, cleaned
	$(BIN)/python -m prunelab.experiments.refresh notebooks/*.ipynb notebooks/*/*.ipynb

lock: $(READY) ## pin the environment anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev -o binder/requirements.txt --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --universal --python-version 3.11 --upgrade --quiet

matrix: $(READY) ## the wheel in new environments, far from the clone, for PYTHONS="3.11 3.12 3.13" TORCHES="torch==2.11.* torch"
	rm -rf build/matrix
	$(BIN)/python -m hatchling build --target wheel --directory build/matrix
	@set -ef; for python in $(PYTHONS); do for torch in $(TORCHES); do \
	  echo "== Python $$python, $$torch"; \
	  $(BIN)/uv venv --quiet --clear --python $$python build/matrix/venv; \
	  $(BIN)/uv pip install --quiet --python build/matrix/venv/bin/python $$torch \
	    "prunelab[dev] @ file://$$(set +f; echo $(CURDIR)/build/matrix/*.whl)"; \
	  (cd build/matrix && OMP_NUM_THREADS=1 venv/bin/pytest -q -p no:nbval $(addprefix ../../tests/,$(MATRIX))); \
	done; done

audit: $(READY) ## known holes of what is pinned (asks PyPI), and the licences of it in docs/reference/dependencies.md
	$(BIN)/python tests/licences.py
	$(BIN)/uvx pip-audit --strict --disable-pip --require-hashes -r binder/requirements.txt

clean: ## remove the environment and the caches, never your runs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
