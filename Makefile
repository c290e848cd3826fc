# Everything runs in .venv, which each target sets up when it is missing or older than what it is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := spconv,nerfacc,viz,log,av2,stream,dev
STAMP := $(VENV)/.installed
NATIVE := $(VENV)/.native
TORCH := $(shell sed -n "s/^torch==//p" constraints.txt)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RUN ?= runs/unipad-fusion-tiny
TYPED := --jaxtyping-packages=renderpretrain,beartype.beartype -m "not untyped and not slow"

.PHONY: help setup setup-card pretrain test test-typed lint format bench clean
.DEFAULT_GOAL := help

help: ## these lines
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(NATIVE) ## install into .venv and build the native kernels

# torch comes first and alone: a dependency must not choose another build of it.
$(STAMP): pyproject.toml setup.py constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing into $(VENV), minutes the first time"
	@{ $(PIP) --upgrade pip setuptools wheel && $(PIP) "torch==$(TORCH)" && $(PIP) --editable ".[$(EXTRAS)]"; } \
		> $(VENV)/install.log 2>&1 || { tail -n 20 $(VENV)/install.log; echo "setup: failed, see $(VENV)/install.log"; exit 1; }
	@touch $@

$(NATIVE): $(STAMP) $(wildcard csrc/*)
	@$(BIN)/python setup.py --quiet build_native
	@touch $@

setup-card: setup ## also torch-scatter, which compiles for 4-5 minutes
	@$(PIP) --no-build-isolation torch-scatter

pretrain: setup ## the main job: 100 steps of UniPAD-M on synthetic streets, 3-4 minutes on two cores
	@$(BIN)/renderpretrain pretrain unipad-fusion --preset tiny --data synthetic --steps 100 --out $(RUN) \
		$$(test -f $(RUN)/checkpoints/latest && echo --resume)

test: setup ## every test
	@$(BIN)/python -m pytest

test-typed: setup ## the tests with the shapes in the annotations checked at run time
	@$(BIN)/python -m pytest $(TYPED)

lint: setup ## ruff, mypy, and the tests with checked shapes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test-typed

format: setup ## put the code into ruff's form
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: setup ## time the kernels against their references
	@$(BIN)/python benchmarks/kernels.py

clean: ## remove what was built; runs stay
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache renderpretrain/_native/*.so
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
