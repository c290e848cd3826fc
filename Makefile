# Everything runs in .venv, which each target sets up when it is missing or older than what it is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := spconv,nerfacc,viz,mesh,viewer,log,wandb,onnx,av2,stream,dev
STAMP := $(VENV)/.installed
NATIVE := $(VENV)/.native
DOCS := $(VENV)/.docs
TORCH := $(shell sed -n "s/^torch==//p" constraints.txt)
FAILED = tail -n 20 $(VENV)/install.log; echo "setup: failed, see $(VENV)/install.log"; exit 1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A process per core with one thread each: the tests are many and small. Many start processes of their own, which
# compile every module anew, as does each half, where bytecode is not kept.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal
SOURCES := csrc/*.* csrc/common/* tests/emulated/*.c* tests/emulated/*.h tests/emulated/*/*.cpp tests/emulated/include/*
RUN ?= runs/unipad-fusion-tiny
comma := ,
# Without a card, its code is compiled for one architecture, so that it cannot rot: four take four times as long.
# What pip builds has all of them.
RENDERPRETRAIN_CUDA_ARCHITECTURES ?= $(shell $(PYTHON) -c "import ctypes; ctypes.CDLL('libcuda.so.1')" 2>&- || echo 90)
export RENDERPRETRAIN_CUDA_ARCHITECTURES
# Every test runs once, most of them with the shapes in the annotations checked; tests/conftest.py says which, and which twice.
TYPED := --jaxtyping-packages=renderpretrain,beartype.beartype -m "not untyped and not slow and not long"
BARE := -m "(untyped or both) and not slow and not long"

.PHONY: help setup setup-card pretrain recipes test test-slow fuzz sanitize sanitize-threads test-cuda-emulated sanitize-cuda sanitize-cuda-threads \
	test-cuda-pretended lint format docs bench gpu-check proof proof-quick clean
.DEFAULT_GOAL := help

help: ## these lines
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: $(NATIVE) ## install into .venv and build the native kernels

# torch comes first and alone: a dependency must not choose another build of it.
$(STAMP): pyproject.toml setup.py constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: torch into $(VENV), half a minute (1 of 3)"
	@{ $(PIP) --upgrade pip setuptools wheel && $(PIP) "torch==$(TORCH)"; } > $(VENV)/install.log 2>&1 || { $(FAILED); }
	@echo "setup: what else it needs, a minute (2 of 3)"
	@RENDERPRETRAIN_NATIVE=0 $(PIP) --editable ".[$(EXTRAS)]" >> $(VENV)/install.log 2>&1 || { $(FAILED); }
	@touch $@

$(NATIVE): $(STAMP) $(wildcard csrc/*.* csrc/common/*)
	@echo "setup: kernels, 2 minutes on two cores (3 of 3)"
	@$(BIN)/python setup.py --quiet build_native
	@echo "setup: done; 'source $(BIN)/activate' puts renderpretrain on your path"
	@touch $@

setup-card: setup ## also torch-scatter, which compiles for 4-5 minutes
	@$(PIP) --no-build-isolation torch-scatter

pretrain: setup ## the main job: 100 steps of UniPAD-M on synthetic streets, 3-4 minutes on two cores
	@$(BIN)/renderpretrain pretrain unipad-fusion --preset tiny --data synthetic --steps 100 --out $(RUN) \
		$$(test -f $(RUN)/checkpoints/latest && echo --resume)

recipes: setup ## trains every recipe for minutes, and says what each learned; 15 minutes on two cores
	@$(BIN)/python benchmarks/recipes.py

test: setup ## every test but slow ones, most of them with the shapes in the annotations checked at run time
	@$(PYTEST) $(TYPED); checked=$$?; $(PYTEST) $(BARE) && exit $$checked

test-slow: setup ## what takes longer than five seconds: examples, several processes, trainings that must learn
	@$(PYTEST) -m "slow and not long"

fuzz: setup ## random folders, settings, weights and calls of operators, examples at full length, further trainings
	@$(PYTEST) -m long

# $(1) what to look for, $(2) its runtime library, $(3) the tests. They run on the best instruction set and on
# the baseline: only there every access is one that the compiler sees, and not an instruction with a mask.
define sanitized
	@RENDERPRETRAIN_NATIVE=$(CURDIR)/build/$@ \
		RENDERPRETRAIN_CXXFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=$(1) -fno-sanitize-recover=all" \
		$(BIN)/python setup.py --quiet build_native
	@export LD_PRELOAD="$$($(CXX) -print-file-name=$(2).so) $$($(CXX) -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=24576 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		TSAN_OPTIONS=halt_on_error=1:die_after_fork=0:ignore_noninstrumented_modules=1 \
		RENDERPRETRAIN_NATIVE=$(CURDIR)/build/$@ OMP_NUM_THREADS=1; \
	for level in "" default; do \
		export TORCHINDUCTOR_CACHE_DIR=$(CURDIR)/build/$@/compiled$$level; \
		$${level:+env ATEN_CPU_CAPABILITY=$$level} $(BIN)/python -c "import sys; from renderpretrain import ops; \
			sys.exit(None if ops.has_native('cpu') else ops.native_status()['cpu'].why)" && \
		$${level:+env ATEN_CPU_CAPABILITY=$$level} $(BIN)/python -m pytest --capture=sys $(3) || exit; \
	done
endef

sanitize: setup ## the operators' tests with memory and undefined behaviour checked in the kernels, 10 minutes
	$(call sanitized,address$(comma)undefined,libasan,tests/ops)

# Its runtime does not let a forked child start threads where the parent had some.
sanitize-threads: setup ## the thread pool's tests with data races looked for, 3 minutes
	$(call sanitized,thread,libtsan,tests/ops -k "(thread or native) and not fork")

# The kernels of csrc/*_cuda.cu, compiled for the CPU: docs/cuda_emulated.md.
EMULATED := $(BIN)/python tests/emulated/run.py
OPERATORS := tests/ops tests/emulated/test_every_function.py
SMALL := -k "not many_tiles and not every_order and not more_cells"

test-cuda-emulated: setup ## CUDA kernels on the CPU, plain and with memory checked, at small sizes, 2 minutes
	@$(EMULATED) -- $(OPERATORS) --most 3 $(SMALL)
	@$(EMULATED) --sanitize address --order reverse -- $(OPERATORS) --most 2 $(SMALL)

sanitize-cuda: setup ## the same at all sizes and in every order of threads, 6 minutes
	@$(EMULATED) --order forward reverse random:1 random:2
	@$(EMULATED) --sanitize address

sanitize-cuda-threads: setup ## the same with data races looked for, minutes
	@$(EMULATED) --sanitize threads -- $(OPERATORS) --most 2 $(SMALL)

# Tests of recipes, encoders and masks that are marked `gpu`, on a device made of the CPU's memory.
test-cuda-pretended: setup ## wrappers and recipes as on a card, and where the host waits, on a pretended cuda:0
	@$(EMULATED) --pretended --order forward -- -m gpu tests/emulated/test_pretended.py \
		tests/recipes/test_on_card.py tests/encoders tests/masking

lint: setup ## ruff, clang-format, mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run --Werror $(SOURCES)
	@$(BIN)/mypy

format: setup ## put the code into its form
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/clang-format -i $(SOURCES)

$(DOCS): $(STAMP)
	@$(PIP) --editable ".[docs]" > $(VENV)/install-docs.log 2>&1 || { tail -n 20 $(VENV)/install-docs.log; exit 1; }
	@touch $@

docs: setup $(DOCS) ## the documentation, built strictly into site/; site/index.html is its first page
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build > $(VENV)/docs.log 2>&1 || { grep -v ^INFO $(VENV)/docs.log; exit 1; }
	@$(BIN)/python -m pytest tests/test_site.py

bench: setup ## time the kernels against their references
	@$(BIN)/python benchmarks/kernels.py

gpu-check: ## all there is to learn from a GPU, in 8 minutes at most; says what it skips where there is none
	@$$(test -x $(BIN)/python && echo $(BIN)/python || echo $(PYTHON)) benchmarks/gpu_check.py

# Runs and probes that are there are not repeated.
proof: setup ## does pre-training pay? every recipe pre-trained, probed and fine-tuned; many hours on two cores, resumable
	@$(BIN)/python benchmarks/proof.py

proof-quick: setup ## the same path in minutes; its numbers say nothing
	@$(BIN)/python benchmarks/proof.py --quick

clean: ## remove what was built; runs stay
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache renderpretrain/_native/*.so
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
