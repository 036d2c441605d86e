# Every target sets up what it needs. CI runs `make test` and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The tests' small matrices do not profit from several threads per process.
TEST_ENV := OMP_NUM_THREADS=1
SERVICES := redis-server postgresql
# Set to PyTorch's own index to get its small CPU build instead of PyPI's.
PIP_TORCH_INDEX ?=

.PHONY: help setup demo demo-clip test check format serve bench fuzz zoo examples services openapi clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install Assay with its development tools

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Assay needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@if [ -n "$(PIP_TORCH_INDEX)" ]; then \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check torch torchvision --index-url "$(PIP_TORCH_INDEX)"; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[postgres,dev]'
	@touch $@

demo: setup ## Scan one clean and two backdoored examples over HTTP, purify, measure (build/demo/summary.json)
	$(BIN)/assay demo

demo-clip: setup ## The same with three CLIPs (build/demo-clip/summary.json)
	$(BIN)/assay demo --clip

test: setup services check ## Run the checks and all tests
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

check: setup ## Lint, types, import contracts, migrations and OpenAPI drift
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/architecture
	$(BIN)/assay db check
	$(BIN)/python -m api.openapi --check
	$(BIN)/hadolint Dockerfile

format: setup ## Format and fix what can be fixed by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: setup ## Start the service on http://127.0.0.1:8000 with the embedded worker
	$(BIN)/assay serve

bench: setup ## Benchmarks (slow, never part of the tests): see docs/benchmarks.md
	$(BIN)/python benchmarks/upload.py
	$(BIN)/python benchmarks/startup.py

FUZZ_SECONDS ?= 600
fuzz: setup ## Ten minutes of changed files for each gate (FUZZ_SECONDS=600)
	$(TEST_ENV) ASSAY_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/hostile/test_fuzz.py --timeout 0 -k gate

SEEDS ?= 3
SHARD ?= 1/1
zoo: setup ## Train the models of the full suite that are not there yet (SEEDS=3 SHARD=i/n; hours)
	$(BIN)/assay bench zoo --suite full --seeds $(SEEDS) --shard $(SHARD)

examples: setup ## Train the example models again (one kind needs Fashion-MNIST: apt-get install dataset-fashion-mnist)
	$(BIN)/python examples/train.py
	$(BIN)/python examples/train_clip.py

openapi: setup ## Write openapi.json after a deliberate change of the API
	$(BIN)/python -m api.openapi

# Redis and PostgreSQL for the tests: installed with apt where that is possible, else the tests that need them skip.
services:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    ! { command -v redis-server >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(SERVICES) >/dev/null; \
	fi

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
