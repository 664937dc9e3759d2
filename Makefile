# `make` lists the targets. Everything is installed below this directory: .venv (Python) and node_modules (anvil, solc).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
# Where it is set, each of the hundreds of processes that tests start compiles all it imports anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin
CODE := settler chains contracts_abi tests docs/examples deploy/grafana/generate deploy/backup deploy/lint deploy/container deploy/compose
SLOW := slow or anvil or postgres or e2e
# What `make check` does not even import: it takes seconds in each of its processes.
UNREAD := -p no:schemathesis --ignore=tests/browser --ignore=tests/api/test_schemathesis.py
WORKERS ?= 2
ARGS ?=
PYTEST_ARGS ?=
SEEDS ?= 10000000
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

VENV := .venv/.installed
NODE := node_modules/.installed

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV) $(NODE) ## the whole job on this machine, nothing to configure (ARGS=--exit-when-settled ends by itself)
	@$(BIN)/settler demo $(ARGS)

.PHONY: install
install: $(VENV) ## the Python environment in .venv, from requirements.lock

.PHONY: check
check: $(VENV) ## format, lint, types, import rules, unit and property tests: under a minute
	@$(BIN)/ruff format --quiet --check $(CODE) || { echo 'remedy: make format' >&2; exit 1; }
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy --no-error-summary
	@out=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$out" >&2; exit 1; }
	@$(BIN)/pytest -n $(WORKERS) -m 'not ($(SLOW) or system)' --hypothesis-profile=quick $(UNREAD) $(PYTEST_ARGS)

# Twice as many as there are cores: half of the time these tests wait for nodes, blocks and each other.
.PHONY: test
test: check $(NODE) ## everything: `make check`, then the tests with anvil, PostgreSQL and the whole program
	@$(BIN)/pytest -n $$((2 * $(WORKERS))) --dist worksteal -m '($(SLOW) or hypothesis) and not system' $(PYTEST_ARGS)

.PHONY: soak
soak: $(VENV) ## simulated worlds from fresh seeds until one breaks, or Ctrl-C (SEEDS=1000 JOBS=4 ARGS='--steps 400')
	@$(BIN)/settler simulate --seeds $(SEEDS) --jobs $(JOBS) --until-broken $(ARGS)

.PHONY: test-system
test-system: $(VENV) $(NODE) ## with Debian packages, which it installs: pages in Chromium, Prometheus, promtool, the image and compose under podman
	@deploy/install-system.sh
	@deploy/lint.sh install
	@$(BIN)/pytest -m system $(PYTEST_ARGS)

.PHONY: lint-deploy
lint-deploy: $(VENV) $(NODE) ## every linter over deploy/: Helm, Kubernetes, Terraform, container files, scripts (.lint)
	@deploy/lint.sh

.PHONY: image
image: $(VENV) ## the container image settler:VERSION and its bill of materials in build/ (docker or podman)
	@deploy/lint.sh install
	@deploy/container/build.sh

.PHONY: dashboards
dashboards: $(VENV) ## write the Grafana dashboards anew (ARGS='--runbook URL')
	@$(BIN)/python -m deploy.grafana.generate $(ARGS)

# Not `npm ci`: it refuses a lock that lacks other platforms' builds, which registries that mirror a part do not have.
.PHONY: dashboards-png
dashboards-png: $(VENV) $(NODE) ## pictures of the dashboards with data, in .screenshots (600 MB of npm the first time)
	@deploy/install-system.sh
	@cd deploy/grafana/render && npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent build
	@$(BIN)/python -m tests.system.draw_dashboards $(ARGS)

.PHONY: coverage
coverage: $(VENV) ## branches of the pure core that its own tests leave out: none
	@mkdir -p .coverage
	@$(BIN)/coverage run -m pytest -p no:xdist tests/domain $(PYTEST_ARGS)
	@$(BIN)/coverage report

.PHONY: mutants
mutants: .venv/.mutmut ## mutants of the pure core that its own tests let live (half an hour; results in mutants/)
	@$(BIN)/mutmut run --max-children $(WORKERS)
	@$(BIN)/mutmut export-cicd-stats

.PHONY: format
format: $(VENV) ## format the code and repair what the linter can repair
	@$(BIN)/ruff check --quiet --fix-only $(CODE)
	@$(BIN)/ruff format --quiet $(CODE)

.PHONY: anvil
anvil: $(NODE) ## the local Ethereum node that demo and tests use (with npm, or npm from a Python wheel)

.PHONY: contracts
contracts: $(NODE) ## compile contracts_abi/sources into contracts_abi/artifacts and renew SOURCES.toml
	@PATH="$$PATH:$(CURDIR)/$(BIN)" node contracts_abi/compile.mjs

.PHONY: lock
lock: .venv/.uv ## resolve the dependencies anew: requirements.lock, deploy/node.lock, package-lock.json
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --upgrade --all-extras --custom-compile-command 'make lock' \
		pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --extra otel --extra nats --constraint requirements.lock --custom-compile-command 'make lock' \
		pyproject.toml --output-file deploy/runtime.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --constraint requirements.lock --custom-compile-command 'make lock' \
		deploy/build.in --output-file deploy/build.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --upgrade --custom-compile-command 'make lock' \
		deploy/node.in --output-file deploy/node.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --upgrade --custom-compile-command 'make lock' \
		$(addprefix --no-emit-package ,aws-cdk-lib jsii constructs aws-cdk-asset-awscli-v1 \
		aws-cdk-asset-node-proxy-agent-v6 aws-cdk-cloud-assembly-schema) \
		deploy/lint.in --output-file deploy/lint.lock
	@PATH="$$PATH:$(CURDIR)/$(BIN)" npm install --package-lock-only --ignore-scripts --no-audit --no-fund --loglevel=error
	@cd deploy/lint && PATH="$$PATH:$(CURDIR)/$(BIN)" npm install --package-lock-only --ignore-scripts --no-audit --no-fund --loglevel=error

.PHONY: clean
clean: ## remove what was installed, built and cached
	@rm -rf .venv .lint node_modules deploy/*/node_modules deploy/grafana/render/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(CODE) -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# The stamps come last in each recipe: an interrupted install is done again.
# Wheels only: a C compiler is never needed. -qq: errors are still shown.
$(VENV): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@echo 'installing the Python environment into .venv …'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-compile \
		--only-binary :all: --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation \
		--config-settings editable_mode=compat --editable .
	@touch $@

.venv/.mutmut: $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --only-binary :all: 'mutmut>=3.8,<4'
	@touch $@

.venv/.uv: $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --only-binary :all: uv
	@touch $@

$(NODE): package.json package-lock.json $(if $(shell command -v npm),,| $(VENV))
	@deploy/fetch-anvil.sh
	@touch $@
