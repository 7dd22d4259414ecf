# Tidings. Needs Python 3.11 or newer with pip; everything else it brings along.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
PYTEST ?= $(BIN)/pytest
# tests side by side: most of the long ones wait
BESIDE ?= 2
# program:Debian package, wanted by some tests only
TOOLS := nginx:nginx haproxy:haproxy faketime:faketime chromium:chromium cc:gcc java:default-jre-headless mvn:maven

.PHONY: help run install test lint bench drill chaos dev tools format clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1|\2/' | while IFS='|' read -r name text; do
		printf '  make %-8s %s\n' "$$name" "$$text"
	done

run: install ## the whole system with a sandbox and a demonstration, until Ctrl-C
	@exec $(BIN)/tidings up --sandbox --demo

install: $(VENV)/.run ## the environment alone, from the lock file

# Whole systems after the small tests, brokers after them and one by one: each has the machine to itself.
test: dev tools ## all tests but the long ones
	@failed=0
	$(PYTEST) -m "not chaos" -k "not kafka" -n $(BESIDE) --dist loadfile --ignore tests/acceptance || failed=1
	$(PYTEST) -m "not chaos" -k "not kafka" -n $(BESIDE) --dist loadfile tests/acceptance || failed=1
	$(PYTEST) -m "not chaos" -k kafka || failed=1
	exit $$failed

lint: dev ## format, style, types, import rules, SQL in its place
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	if grep -rnE "\b[rR]?[fF][rR]?[\"'][^\"']*\b(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|TRUNCATE)\b" src --include='*.py' \
		| grep -v '# sql: identifier$$'; then
		echo "SQL is built by an f-string above: it belongs into a .sql file, with parameters" >&2
		exit 1
	fi

bench: install ## the benchmark suite
	@exec $(BIN)/tidings bench

drill: install ## providers go away under load and come back: what happened when
	@exec $(BIN)/tidings drill

chaos: dev tools ## the long fault suite
	@$(PYTEST) -m chaos --timeout 3600

format: dev ## rewrite the sources in the agreed form
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dev: $(VENV)/.dev

clean: ## remove the environment and what tools left behind
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Debian splits venv from Python: without it, pip makes do.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Tidings needs Python 3.11 or newer, and $(PYTHON) is {sys.version}")'
	$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || {
		$(PYTHON) -m venv --clear --without-pip $(VENV)
		$(PYTHON) -m pip --python $(VENV)/bin/python --disable-pip-version-check --quiet install pip
	}

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV)" >&2
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV), with the tools of development" >&2
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/.run

# Programs that some tests run against. As root they are installed, else the tests that want them say so and are skipped.
tools:
	@missing=""
	for pair in $(TOOLS); do command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair##*:}"; done
	if [ -z "$$missing" ]; then exit 0; fi
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "installing$$missing, for tests only" >&2
		export DEBIAN_FRONTEND=noninteractive
		apt-get install -qq -y --no-install-recommends $$missing >/dev/null \
			|| { apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing >/dev/null; } \
			|| echo "could not install$$missing: what needs them is skipped" >&2
	else
		echo "what needs$$missing is skipped; to test it: apt-get install$$missing" >&2
	fi
