# Everything runs in the project's own virtual environment, made from the lock.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed-from-lock
# The first of these that is 3.11, 3.12 or 3.13; PYTHON=… overrides.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && echo $$p && break; done)

# Programs that tests and servers start load what is compiled already: a fifth of their start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo dev stop test test-fast reliability lint types bench lock clean
.PHONY: coverage docs notebooks release

help:
	@echo "make demo    the whole way once: servers, a session, features, checks (RECORDINGS=folder: yours)"
	@echo "make dev     the Dagster UI and its daemon on this machine, until Ctrl-C"
	@echo "make test    the test suite, against real servers    make test-fast     its part without servers, in a minute"
	@echo "make reliability   all faults, the slow ones too, and their table in docs/reliability.md"
	@echo "make lint    ruff    make types   mypy    make bench   speed and memory    make lock   pin anew"
	@echo "make docs    the site, in site/   make notebooks   their pictures   make coverage   of the tests, in htmlcov/"
	@echo "make release sdist and wheel, built and checked, in dist/"

install: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found; give it with: make PYTHON=/path/to/python3 …"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module: apt-get install python3-venv (Debian), or give another with: make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked dependencies (about 1.6 GB on disk, a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: install
	@$(BIN)/heimdall demo $(if $(RECORDINGS),--recordings "$(RECORDINGS)")

dev: install
	@$(BIN)/heimdall dev

stop: install
	@$(BIN)/heimdall stop

# Three files of tests at once, also on two cores: much of their time is waiting. They share one stack.
PARALLEL := --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: install
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-fast: install
	@$(BIN)/python -m pytest $(PARALLEL) --numprocesses 2 -m fast

# The tests that inject faults record what they see. Where docs/reliability.md has another table, it gets this one, and
# the command fails, so that the difference is looked at.
reliability: install
	@HEIMDALL_TEST_WRITE_RELIABILITY=1 $(BIN)/python -m pytest $(PARALLEL) -m "fault or slow"

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install
	@$(BIN)/mypy

bench: install
	@$(BIN)/python -m benchmarks

# Lines and branches that the test suite executes, in the programs that it starts as well; the floor is in pyproject.toml.
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

# Executes the notebooks of docs/notebooks and draws their pictures again.
notebooks: install
	@HEIMDALL_TEST_WRITE_PICTURES=1 $(BIN)/python -m pytest heimdall_pipelines_tests/notebooks

# The package as it would be uploaded: CONTRIBUTING.md has the steps around it.
release: install
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	@$(BIN)/twine check --strict dist/*
	@HEIMDALL_TEST_DIST=dist $(BIN)/python -m pytest -q --no-header heimdall_pipelines_tests/test_package.py

# Needs uv (pip install uv): the lock serves Linux and macOS and Python 3.11 to 3.13 at once.
# The second file is what a deployment's image installs: a part of the first, the same versions.
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"
lock:
	$(COMPILE) --extra dev --output-file requirements.lock
	$(COMPILE) --extra cluster --constraint requirements.lock --output-file requirements-deploy.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov site
