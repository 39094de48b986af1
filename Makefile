# `make` lists the targets. Everything is installed into virtual environments in this folder.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

# Ignore an active virtual environment and the user's own packages.
unexport PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX
export PYTHONNOUSERSITE := 1
# Tests start hundreds of our programs: compile each module once, not once per program.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv-test/bin
OTHER_PYTHONS := 3.12 3.13  # of `make test-pythons`; `make test` uses one Python
PIP_INSTALL := -m pip --disable-pip-version-check --no-input install --quiet

# A stamp contains the folder, because a moved or copied environment must be made again.
HERE := $(shell pwd -P | cksum | cut -d' ' -f1)
SETUP_STAMP := .venv/ready-$(HERE)
TEST_STAMP := .venv-test/ready-$(HERE)
BINARY_STAMP := .venv-binary/ready-$(HERE)
ORIGINAL_STAMP := .venv-original/ready-$(HERE)
BENCH_STAMP := .venv-bench/ready-$(HERE)
# One process more than cores, because tests also wait for the disk and for other processes. Files
# are started in the order of their names: the small ones of tests/unit fill up the end.
PROCESSES := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PARALLEL = --numprocesses $(or $(JOBS),$(PROCESSES)) --dist loadfile --no-loadscope-reorder
PINS := requirements/client.txt requirements/server.txt

# Shell: sets $$base to the Python to build with, or stops with one line that says what to install.
define find_python
is_new() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
stop() { echo "make: $$1" >&2; exit 1; }; \
if [ -n "$(PYTHON)" ]; then \
    is_new "$(PYTHON)" || stop "PYTHON=$(PYTHON) is not a Python of at least 3.11"; \
    found="$(PYTHON)"; \
else \
    found=; \
    for name in python3 python3.14 python3.13 python3.12 python3.11; do \
        if is_new "$$name"; then found="$$name"; break; fi; \
    done; \
    if [ -z "$$found" ] && command -v python3 >/dev/null; then \
        stop "python3 is older than 3.11; install a newer one: sudo apt install python3.11 python3.11-venv"; \
    fi; \
    [ -n "$$found" ] || \
        stop "python3 is missing; install it: sudo apt install python3 python3-venv"; \
fi; \
base=$$("$$found" -c 'import sys; print(sys._base_executable)'); \
"$$base" -c 'import ensurepip, venv' 2>/dev/null || { \
    version=$$("$$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
    stop "Python $$version cannot make virtual environments; install what is missing: sudo apt install python$$version-venv"; \
}
endef

# $(call find_other_python,VERSION). Shell: sets $$found to this Python, from PATH or pyenv, or
# stops with one line that says what to install.
define find_other_python
for found in python$(1) "$$HOME"/.pyenv/versions/$(1).*/bin/python$(1) ""; do \
    [ -z "$$found" ] || ! "$$found" -c '' 2>/dev/null || break; \
done; \
[ -n "$$found" ] || { \
    echo "make: python$(1) is missing; install it: sudo apt install python$(1) python$(1)-venv (or: pyenv install $(1))" >&2; \
    exit 1; \
}
endef

# $(call install,FOLDER,REQUIREMENTS): a virtual environment with these requirements in it.
define install
if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
    $(find_python); \
    echo "making $(1) with $$base"; \
    "$$base" -m venv --clear $(1) || exit 1; \
fi; \
echo "installing $(2) into $(1)"; \
$(1)/bin/python $(PIP_INSTALL) -r $(2)
endef

# Shell: ensures that Chromium for the browser tests exists, or stops with one line. The root
# user of a Debian is that of CI and of containers: for it, Chromium is installed.
define find_chromium
stop() { echo "make: $$1" >&2; exit 1; }; \
if [ -n "$$CHROMIUM" ]; then \
    [ -x "$$CHROMIUM" ] || stop "CHROMIUM=$$CHROMIUM is not a program"; \
elif ! command -v chromium >/dev/null; then \
    command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] || \
        stop "chromium is missing (or name one with CHROMIUM=); install it: sudo apt install --no-install-recommends chromium"; \
    echo "installing chromium"; \
    apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium \
        >/dev/null || exit 1; \
fi
endef

# $(call install_package,FOLDER): our package, editable. An environment
# made for 1.0.0 has it under the name of the original's package.
define install_package
echo "installing poussetaches into $(1)"; \
$(1)/bin/python -m pip uninstall --quiet --yes poussetaches 2>/dev/null; \
$(1)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
endef

# $(call if_broken,FOLDER): a reason to make it again if its Python is missing.
if_broken = $(if $(realpath $(1)/bin/python),,always)

.PHONY: always help setup demo format lint types docs check test chromium simulate crash-test \
    fuzz test-cold test-properties test-pythons $(OTHER_PYTHONS:%=test-%) test-long binary test-binary bench pins clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(SETUP_STAMP)  ## make .venv to use poussetaches: the server, the commands, and Flask
	@echo ".venv is ready; activate it: . .venv/bin/activate"

demo: $(SETUP_STAMP)  ## watch a server run tasks of an example application (KEEP=1 leaves it running)
	@.venv/bin/python examples/demo/demo.py $(if $(KEEP),--keep)

format: $(TEST_STAMP)  ## format the code
	@$(BIN)/python -m ruff check --fix --quiet . || true
	@$(BIN)/python -m ruff format .

lint: $(TEST_STAMP)  ## check style, format and spelling
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python $(BIN)/codespell

types: $(TEST_STAMP)  ## check the types
	@$(BIN)/python -m mypy

docs: $(TEST_STAMP)  ## rewrite the generated parts of docs/
	@$(BIN)/python tools/generate_docs.py

check: lint types  ## lint, types, and whether the generated docs are up to date
	@$(BIN)/python tools/generate_docs.py --check

test: chromium $(TEST_STAMP) $(ORIGINAL_STAMP)  ## run all tests on all cores (ARGS="-k name" for some, JOBS=0 for one process)
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

chromium:
	@$(find_chromium)

simulate: $(TEST_STAMP)  ## run the server in virtual time under injected faults (SECONDS=60, SEEDS=0-999)
	@$(BIN)/python -m tests.simulation $(if $(SEEDS),--seeds $(SEEDS)) \
	    $(if $(SECONDS)$(SEEDS),$(if $(SECONDS),--seconds $(SECONDS)),--seconds 60) $(ARGS)

test-cold: chromium $(TEST_STAMP) $(ORIGINAL_STAMP)  ## run the acceptance tests with a new interpreter for each start of poussetaches
	@COLD_START=1 $(BIN)/python -m pytest $(PARALLEL) tests/acceptance $(ARGS)

crash-test: $(TEST_STAMP)  ## kill a real server under load repeatedly (KILLS=20)
	@$(BIN)/poussetaches verify --crash-test --kills $(or $(KILLS),20) --seconds $(or $(SECONDS),20)

fuzz: $(TEST_STAMP)  ## send malformed and random input, for about ten minutes
	@FUZZ=long $(BIN)/python -m pytest tests/fuzz tests/hostile tests/integration/test_openapi.py $(ARGS)

test-properties: $(TEST_STAMP)  ## try 30 times as many random examples as `make test`, for about ten minutes
	@FUZZ=long $(BIN)/python -m pytest $(PARALLEL) --timeout 1800 -m hypothesis \
	    tests/unit tests/store tests/integration $(ARGS)

test-pythons: $(OTHER_PYTHONS:%=test-%)  ## run unit, store and client tests under Python 3.12 and 3.13

$(OTHER_PYTHONS:%=test-%): test-%:
	@$(call find_other_python,$*); $(MAKE) PYTHON="$$found" .venv-test-$*/ready-$(HERE)
	@.venv-test-$*/bin/python -m pytest $(PARALLEL) \
	    tests/unit tests/store tests/integration/test_client*.py $(ARGS)

test-long: test-pythons $(TEST_STAMP)  ## the long forms, for about an hour and a half: simulation, kills, fuzzing, other Pythons
	@$(MAKE) simulate SECONDS=3600
	@$(BIN)/python -m tests.simulation.day
	@$(MAKE) crash-test KILLS=200 SECONDS=120
	@$(MAKE) test-cold
	@$(MAKE) fuzz
	@$(MAKE) test-properties

binary: $(BINARY_STAMP)  ## build dist/poussetaches: server and commands in one executable file
	@.venv-binary/bin/python tools/binary/build.py

test-binary: $(TEST_STAMP)  ## build dist/poussetaches, and test it without Python on the PATH
	@$(MAKE) binary
	@BINARY=dist/poussetaches $(BIN)/python -m pytest tests/acceptance/test_binary.py $(ARGS)

bench: $(BENCH_STAMP)  ## measure the speed of the server and of alternatives (QUICK=1 for small sizes)
	@.venv-bench/bin/python -m benchmarks.run $(if $(QUICK),--quick)

pins: $(TEST_STAMP)  ## resolve the dependencies and rewrite requirements/*.txt
	@$(BIN)/python tools/pin.py

clean:  ## delete everything that make and the tools created
	@rm -rf .venv .venv-test .venv-test-* .venv-binary .venv-original .venv-bench build dist src/*.egg-info htmlcov \
	    .coverage .coverage.* benchmarks/results .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    .schemathesis
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

$(SETUP_STAMP): pyproject.toml $(PINS) requirements/setup.txt $(call if_broken,.venv)
	@$(call install,.venv,requirements/setup.txt)
	@$(call install_package,.venv)
	@touch $@

$(TEST_STAMP): pyproject.toml $(PINS) requirements/test.txt $(call if_broken,.venv-test)
	@$(call install,.venv-test,requirements/test.txt)
	@$(call install_package,.venv-test)
	@touch $@

.venv-test-%/ready-$(HERE): pyproject.toml $(PINS) requirements/test.txt
	@$(call install,.venv-test-$*,requirements/test.txt)
	@$(call install_package,.venv-test-$*)
	@touch $@

$(BINARY_STAMP): pyproject.toml $(PINS) requirements/binary.txt $(call if_broken,.venv-binary)
	@$(call install,.venv-binary,requirements/binary.txt)
	@$(call install_package,.venv-binary)
	@touch $@

$(BENCH_STAMP): pyproject.toml $(PINS) requirements/bench.txt $(call if_broken,.venv-bench)
	@$(call install,.venv-bench,requirements/bench.txt)
	@$(call install_package,.venv-bench)
	@touch $@

$(ORIGINAL_STAMP): requirements/original.txt $(call if_broken,.venv-original)
	@$(call install,.venv-original,requirements/original.txt)
	@touch $@
