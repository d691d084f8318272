# Every command of the project. `make help` lists them.
# Needs: make, and Python 3.11 or newer with its venv module. Everything else is installed into .venv from the hashed lock files.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup setup-dev demo test test-deep peers lint format bench statement fhir-doc smart-doc ihe-doc texts pictures browser lock clean

# The interpreter that .venv is made with. Left empty, the first suitable one on the PATH is taken.
PYTHON ?=
# How many processes run the tests (one more than a small machine has cores: many tests wait for a peer or a disk), and further
# options for pytest: make test PYTEST_ARGS="-k rad69"
TEST_PROCESSES ?= 3
PYTEST_ARGS ?=

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input
UV_COMPILE = $(VENV)-lock/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

export PIP_ROOT_USER_ACTION := ignore

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: $(VENV)/.setup ## make .venv with the command imageshare in it
setup-dev: $(VENV)/.setup-dev ## the same with everything that the tests and linters need

demo: setup ## a server in a temporary folder, and the story told step by step against it
	@$(VENV)/bin/imageshare demo

test: setup-dev peers lint ## linters and the whole test suite, on SQLite and PostgreSQL
	$(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist worksteal -ra $(PYTEST_ARGS)

test-deep: export IMAGESHARE_TEST_DEEP := 1
test-deep: test ## the same with many more generated examples and the slow tests

peers: ## install the programs of others that tests talk to (root on Debian; elsewhere their tests are skipped)
	@tests/peers/install

lint: setup-dev ## ruff, mypy --strict, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

format: setup-dev ## let ruff order the imports and format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: setup-dev ## the benchmarks, each beside a ceiling measured in the same run
	@$(VENV)/bin/python -m conformance.bench

statement: setup ## write the DICOM Conformance Statement anew from the tables that the program uses
	$(VENV)/bin/python -m server.statement > $(VENV)/statement.md
	mv $(VENV)/statement.md docs/dicom-conformance-statement.md

fhir-doc: setup-dev ## write docs/fhir.md anew from the tests and what the server says of itself
	PYTHONPATH=tests $(VENV)/bin/python -m peers.fhir_document > $(VENV)/fhir.md
	mv $(VENV)/fhir.md docs/fhir.md

smart-doc: setup-dev ## write docs/smart.md anew from the guide's requirements, the tests that name them, and the kit
	PYTHONPATH=tests $(VENV)/bin/python -m peers.smart_document > $(VENV)/smart.md
	mv $(VENV)/smart.md docs/smart.md

ihe-doc: setup-dev ## write docs/ihe-integration-statement.md anew from the tests and what the server answers
	PYTHONPATH=tests $(VENV)/bin/python -m peers.ihe_document > $(VENV)/ihe.md
	mv $(VENV)/ihe.md docs/ihe-integration-statement.md

pictures: setup-dev peers ## take the pictures of pages in docs/images anew, by the tests that walk through them
	$(VENV)/bin/python -m pytest -q tests/server/edges/pages/test_walk.py tests/server/edges/pages/test_taken_home.py tests/server/edges/pages/test_ohif.py tests/server/edges/pages/test_launch.py tests/server/edges/pages/test_bring_in.py
	PYTHONPATH=tests $(VENV)/bin/python -m peers.pictures

texts: setup-dev ## bring the catalogues of the pages' texts up to date: what is new has no translation yet
	PYTHONPATH=tests $(VENV)/bin/python -m peers.texts

browser: ## build what browsers run (needs Node.js and npm): server/browser into the pages' static folder
	cd server/browser && npm ci --silent && npx tsc --noEmit && npx vite build --logLevel warn

# Written without the address of any package index: pip uses whichever it is set up with.
lock: $(VENV)/.setup ## write the lock files anew from pyproject.toml
	$(VENV)/bin/python -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --disable-pip-version-check install --quiet uv
	$(UV_COMPILE) --upgrade --extra setup --output-file requirements.lock
	$(UV_COMPILE) --upgrade --extra setup --extra test --constraints requirements.lock --output-file requirements-dev.lock
	rm -rf $(VENV)-lock

clean: ## remove .venv and everything that tools left behind
	rm -rf $(VENV) $(VENV)-lock build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up is stamped: it is done once, and again when a lock file or pyproject.toml changes. A stamp is only left when all of it
# succeeded, so an interrupted set-up goes on where it stopped. Stamps of a .venv whose interpreter is gone count for nothing.
ifneq ($(shell test -x $(VENV)/bin/python && echo usable),usable)
$(shell rm -f $(VENV)/.setup $(VENV)/.setup-dev)
endif

$(VENV)/bin/python:
	@for candidate in $(PYTHON) python3 python3.11 python3.12 python3.13 python3.14; do \
	    if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        $$candidate -c 'import ensurepip, venv' 2>/dev/null \
	            || { echo "$$candidate has no venv module. On Debian or Ubuntu: apt-get install python3-venv; then run make again." >&2; exit 1; }; \
	        exec $$candidate -m venv --clear $(VENV); \
	    fi; \
	done; \
	echo "imageshare needs Python 3.11 or newer, and none is on the PATH. Install one, or name it: make setup PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.setup: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing what imageshare needs into $(VENV), once (about a minute)"
	@$(PIP) install --quiet --require-hashes --requirement requirements.lock
	@$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.setup-dev: requirements-dev.lock requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing what imageshare and its tests need into $(VENV), once (about a minute and a half)"
	@$(PIP) install --quiet --require-hashes --requirement requirements-dev.lock
	@$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.setup $@
