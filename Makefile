# Everything runs in the project's virtual environment, created from the lock file.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed-from-lock
# The first of these with version 3.11, 3.12 or 3.13; PYTHON=… overrides it.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && echo $$p && break; done)

# Child processes of tests and servers use cached bytecode, which saves a fifth of their start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo dev stop test test-fast reliability lint types bench lock clean
.PHONY: coverage docs notebooks release reference

help:
	@echo "make demo    everything once: servers, sessions, features, checks, a dataset (RECORDINGS=folder: your recordings)"
	@echo "make dev     the Dagster UI and its daemon on this machine, until Ctrl-C"
	@echo "make test    the tests, against real servers    make test-fast   most tests without servers, in a minute"
	@echo "make reliability   all injected faults, including slow tests; updates their table in docs/reliability.md"
	@echo "make lint    ruff    make types   mypy    make bench   speed and memory    make lock   update the lock files"
	@echo "make docs    the site, in site/   make notebooks   run them, update pictures   make coverage   report in htmlcov/"
	@echo "make release build and check sdist and wheel, in dist/    make reference   the reference dataset and its page"

install: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is required and was not found; specify it with: make PYTHON=/path/to/python3 …"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module: apt-get install python3-venv (Debian), or specify another Python with: make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked dependencies (about 1.6 GB on disk, a minute or two)"
	@PIP_USE_PEP517=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: install
	@$(BIN)/heimdall demo $(if $(RECORDINGS),--recordings "$(RECORDINGS)")

dev: install
	@$(BIN)/heimdall dev

stop: install
	@$(BIN)/heimdall stop

# Three test files in parallel, also on two cores, because tests wait much of the time. They share one stack.
PARALLEL := --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: install
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-fast: install
	@$(BIN)/python -m pytest $(PARALLEL) --numprocesses 2 -m fast

# Tests that inject faults record the results. If the table in docs/reliability.md differs, it is updated and the command
# fails, so that the difference is reviewed.
# RELIABILITY=slow runs only those that `make test` leaves out.
RELIABILITY := fault or slow
reliability: install
	@HEIMDALL_TEST_WRITE_RELIABILITY=1 $(BIN)/python -m pytest $(PARALLEL) -m "$(RELIABILITY)"

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install
	@$(BIN)/mypy

bench: install
	@$(BIN)/python -m benchmarks

# Lines and branches that the tests execute, including programs that they start; the minimum is in pyproject.toml.
COVERAGE_TESTS ?=
coverage: install
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PARALLEL) $(COVERAGE_TESTS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage html --quiet --fail-under=0
	@$(BIN)/coverage report

docs: install
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean
	@echo "site/index.html"

# Executes the notebooks of docs/notebooks and updates their pictures.
notebooks: install
	@HEIMDALL_TEST_WRITE_PICTURES=1 $(BIN)/python -m pytest heimdall_pipelines_tests/notebooks

# The package for upload: CONTRIBUTING.md has the other steps of a release.
release: install
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	@$(BIN)/twine check --strict dist/*
	@HEIMDALL_TEST_DIST=dist $(BIN)/python -m pytest -q --no-header heimdall_pipelines_tests/test_package.py

# Makes the reference dataset (20,000 samples: minutes), with its export in a folder, and writes what it is:
# reference/result.json and docs/reference.md.
REFERENCE ?= .heimdall/reference-export
reference: install
	@$(BIN)/python -m reference --output $(REFERENCE) --write

# Requires uv (pip install uv): the lock file is for Linux and macOS and for Python 3.11 to 3.13.
# The second file is for the image of a deployment: a subset of the first, with the same versions.
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"
lock:
	$(COMPILE) --extra dev --output-file requirements.lock
	$(COMPILE) --extra cluster --constraint requirements.lock --output-file requirements-deploy.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov site
