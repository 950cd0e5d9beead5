# On a fresh machine with Python 3.11 or newer: `make run` starts Penstock, `make test` tests it.
# Every target installs what it needs into .venv first. VERBOSE=1 shows the commands.

PYTHON ?= python3
ARGS ?=
# Tests wait more than they compute, for processes and clocks: more workers than most machines here have cores.
JOBS ?= 4

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(if $(VERBOSE),,-qq)

# Stamps: what is installed, newer than the files that say what to install.
CREATED := $(VENV)/.created
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev

CHECKS := check-format check-lint check-types check-protos check-breaking check-imports check-stubs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check $(CHECKS) bench proto format constraints clean
ifndef VERBOSE
.SILENT:
endif

help:  ## Show this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUNTIME)  ## Start core, edge and the demo agents (ARGS="--port 9000")
	$(BIN)/penstock up $(ARGS)

test: $(DEV)  ## Run the tests (ARGS="-k journal", JOBS=1 for one after the other)
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile $(ARGS)

check: $(CHECKS)  ## Check format, lint, types, protos, import rules and stubs

check-format: $(DEV)
	$(BIN)/ruff format --check

check-lint: $(DEV)
	$(BIN)/ruff check

check-types: $(DEV)
	$(BIN)/mypy

check-protos: $(DEV)
	$(BIN)/buf lint

# Against the last commit while the protos are being changed, else against the one before it.
check-breaking: $(DEV)
	base=HEAD; \
	if [ -z "$$(git status --porcelain -- 'protos/*.proto')" ]; then base=HEAD~1; fi; \
	if git ls-tree -r --name-only $$base -- protos 2>/dev/null | grep -q '\.proto$$'; then \
		before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; \
		git archive $$base buf.yaml protos | tar -x -C "$$before"; \
		$(BIN)/buf breaking --against "$$before"; \
	else \
		echo "buf breaking: skipped, there are no protos in $$base to compare with"; \
	fi

check-imports: $(DEV)
	$(BIN)/lint-imports --no-logo $(if $(VERBOSE),--verbose)

check-stubs: $(DEV)
	fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; set -e; \
	$(BIN)/python protos/generate.py "$$fresh"; \
	diff -r -x __init__.py -x __pycache__ "$$fresh/penstock/v1" penstock/v1 \
		|| { echo "The stubs are not those of protos/: run 'make proto'."; exit 1; }

bench: $(DEV)  ## Measure, print the table, write JSON
	$(BIN)/python -m bench $(ARGS)

proto: $(DEV)  ## Write penstock/v1 from protos/
	$(BIN)/python protos/generate.py

format: $(DEV)  ## Format the code and fix what lint can fix
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

constraints:  ## Renew constraints.txt with the newest versions that pyproject.toml allows
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; set -e; \
	$(PYTHON) -m venv "$$scratch/venv"; \
	"$$scratch/venv/bin/pip" install -qq --upgrade --upgrade-strategy eager '.[dev,postgres,redis]'; \
	sed -n '/^#/p' constraints.txt > "$$scratch/constraints.txt"; \
	"$$scratch/venv/bin/pip" freeze --all --exclude pip --exclude penstock >> "$$scratch/constraints.txt"; \
	cp "$$scratch/constraints.txt" constraints.txt

clean:  ## Remove .venv, caches and builds; runs in .penstock stay
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CREATED):
	$(PYTHON) -c 'import sys; sys.exit("Penstock needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(RUNTIME): $(CREATED) pyproject.toml constraints.txt
	echo "Installing Penstock into $(VENV)"
	$(PIP) -c constraints.txt -e .
	touch $@

$(DEV): $(CREATED) pyproject.toml constraints.txt
	echo "Installing Penstock and its development tools into $(VENV)"
	$(PIP) -c constraints.txt -e '.[dev,postgres]'
	touch $(RUNTIME) $@
