# Tarn: every task has one name, here and in CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON      ?= python3.11
ENV         ?= local
# QUALITY=off runs the lake without Deequ, and says on screen that quality was not judged.
QUALITY     ?= on

BIN         := .venv/bin
SAM         := .venvs/sam/bin/sam
CHECKOV     := .venvs/checkov/bin/checkov
TEMPLATES   := template.yaml $(wildcard datasets/*/*/template.yaml) $(wildcard foundations/*.yaml team/*.yaml) $(filter-out %.asl.yaml,$(wildcard pipeline/*.yaml cicd/*.yaml))
CORES       := $(shell getconf _NPROCESSORS_ONLN)
# One process a core; what shares a fixture stays together, and the longest begins first (tests/conftest.py).
PARALLEL    := -n auto --dist loadgroup --no-loadscope-reorder
INSTALL     := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

# The user's own variables for AWS must not reach an account from a test.
export SAM_CLI_TELEMETRY := 0

##@ Use
.PHONY: help
help: ## List the tasks
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Run the whole lake on this machine, with real files, Spark and Deequ
	@$(BIN)/tarn demo --quality $(QUALITY)

.PHONY: test
test: static ## Lint, types, rules; unit, template, integration and end-to-end tests
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

.PHONY: test-all
test-all: static .venvs/awscli/.ready ## make test, and what takes minutes: upgrade, two lakes, engines, least privilege, delivery pipeline, soak
	@$(BIN)/python -m pytest $(PARALLEL)

##@ Work on it
.PHONY: setup
setup: needs .venv/.ready .venvs/sam/.ready .venvs/checkov/.ready jars ## Make the environments and fetch the jars (once)

.PHONY: needs
needs:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is needed and is not on PATH. Install Python 3.11 (Glue 5.1 and its Spark run on it), or name yours: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), and exactly Python 3.11 is needed (Glue 5.1 and its Spark run on it)." >&2; exit 1; }
	@java -version 2>&1 | grep -q '"17\.' || { echo "make: Java 17 is needed and 'java -version' does not show it: Spark and Deequ run on it. Install a Java 17 runtime (Debian: openjdk-17-jre-headless) and put its java on PATH." >&2; exit 1; }

.venv/.ready: requirements/main.txt pyproject.toml
	@echo "Making .venv from requirements/main.txt (about a minute, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python $(INSTALL) -r requirements/main.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venvs/%/.ready: requirements/%.txt
	@echo "Making .venvs/$* from $< (once)"
	@$(PYTHON) -m venv .venvs/$*
	@.venvs/$*/bin/python $(INSTALL) -r $<
	@touch $@

.PHONY: jars
jars: .venv/.ready
ifeq ($(QUALITY),on)
	@$(BIN)/python -m tarn.jars fetch
endif

.PHONY: locks
locks: ## Compile requirements/*.in to hash-pinned requirements/*.txt (needs uv)
	@for name in main sam checkov taskcat awscli workflows; do \
	  uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url requirements/$$name.in --output-file requirements/$$name.txt; done
	@for name in duckdb notebook; do uv pip compile --quiet --python-version 3.11 --constraint requirements/main.txt \
	  --generate-hashes --no-emit-index-url engines/$$name/requirements.in --output-file engines/$$name/requirements.txt; done
	@uv pip compile --quiet --python-version 3.13 --python-platform aarch64-manylinux_2_28 --constraint requirements/main.txt \
	  --generate-hashes --no-emit-index-url requirements/runtime.in --output-file requirements/runtime.txt

.PHONY: format
format: .venv/.ready ## Format the Python code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only --quiet .

.PHONY: lint
lint: lint-python lint-templates sam-validate checkov workflows taskcat-lint ## ruff, cfn-lint, sam validate --lint, checkov; workflows, taskcat

.PHONY: lint-python
lint-python: .venv/.ready
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .

.PHONY: lint-templates
lint-templates: .venv/.ready
	@$(BIN)/cfn-lint

# Only what SAM transforms: of the others cfn-lint has said all that sam knows.
.PHONY: sam-validate
sam-validate: .venvs/sam/.ready
	@AWS_DEFAULT_REGION=eu-west-1 .venvs/sam/bin/python tests/validate_with_sam.py $$(grep -l '^Transform:' $(TEMPLATES)) >/dev/null

.PHONY: checkov
checkov: .venvs/checkov/.ready
	@$(CHECKOV) --quiet --compact --skip-download --framework cloudformation $(addprefix --file ,$(TEMPLATES))

# GitHub's schema, which comes with the checker, says what a workflow may hold; actionlint also reads its expressions and
# scripts. It is a Go program: where there is no Go, the schema alone has the word.
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
.PHONY: workflows
workflows: .venvs/workflows/.ready ## Check .github/workflows by GitHub's schema, and with actionlint where Go is installed
	@said=$$(.venvs/workflows/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml) || { echo "$$said" >&2; exit 1; }
	@if command -v go >/dev/null && GOTOOLCHAIN=local GOBIN=$(CURDIR)/.venvs/go go install $(ACTIONLINT); \
	  then .venvs/go/actionlint .github/workflows/*.yml; \
	  else echo "make: no Go here that builds actionlint: the workflows have been checked by their schema alone"; fi

.PHONY: taskcat-lint
taskcat-lint: .venvs/taskcat/.ready ## Check .taskcat.yml with taskcat's own reader; touches no account
	@.venvs/taskcat/bin/python -W ignore -c 'import yaml; from taskcat._dataclasses import BaseConfig; BaseConfig.from_dict(yaml.safe_load(open(".taskcat.yml")))'

.PHONY: types
types: .venv/.ready ## mypy: strict on what runs in the lake, and on the command line
	@$(BIN)/mypy functions
	@$(BIN)/mypy tarn

.PHONY: rules
rules: jars ## Parse every dataset's rules with the real DQDL parser
	@$(BIN)/python -m tarn.rules check datasets

.PHONY: static
static: setup
	@$(MAKE) --no-print-directory --jobs $(CORES) --output-sync=target lint types rules

.PHONY: check
check: static ## What a commit must pass, in under two minutes: lint, types, rules, unit and template tests
	@$(BIN)/python -m pytest --quiet $(PARALLEL) tests/unit tests/templates

.PHONY: engines
engines: setup ## The same batch of real flights through every engine of the heavy hop, on one lake of this machine
	@$(BIN)/python -m tarn.local.engines

.PHONY: bench
bench: setup ## What the light transform takes over DuckDB's own conversion, as ratios side by side
	@$(BIN)/python -m bench.light_transform

.PHONY: e2e
e2e: setup ## Only the end-to-end tests: the whole lake, deployed by sam
	@$(BIN)/python -m pytest tests/e2e

.PHONY: pipeline-test
pipeline-test: setup .venvs/workflows/.ready .venvs/taskcat/.ready .venvs/awscli/.ready ## The delivery pipeline, here: pushes through the real buildspec.yml, on the embedded AWS
	@$(BIN)/python -m tests.delivery.pipeline

# N=100000 is the full figure; so many are not judged. SEED=2 is another order of faults.
N    ?= 300
SEED ?= 1
.PHONY: soak
soak: setup ## N small objects through a lake under every fault, and the end state against S3 (N=300 SEED=1)
	@$(BIN)/python -m tests.soak $(N) --seed $(SEED)

.PHONY: soak-mutants
soak-mutants: setup ## The soak again on lakes that are broken on purpose, each of which it must find
	@$(BIN)/python -m pytest --quiet tests/soak/test_mutants.py

##@ Deploy it
.PHONY: build
build: .venv/.ready ## Resolve the functions' dependencies for Lambda (arm64), and the Deequ jars
	@$(BIN)/python -m tarn.packaging

.PHONY: package
package: build jars ## Build, and upload what sam does not: jars, SQL, rules, scripts, dependencies (ENV=dev)
	@$(BIN)/tarn package --environment $(ENV) --quality $(QUALITY) $(if $(APPROVED),--approved)

.PHONY: deploy
deploy: build jars ## Deploy the lake to the account of your AWS profile (ENV=dev)
	@$(BIN)/tarn deploy --environment $(ENV) --quality $(QUALITY) $(if $(APPROVED),--approved)

# One after the other: the lake and its delivery have names of their own, which two stacks cannot both have.
TASKCAT_TESTS = $(shell sed -n '/^tests:/,$$s/^  \([a-z-]*\):$$/\1/p' .taskcat.yml)
.PHONY: taskcat
taskcat: package .venvs/taskcat/.ready .venvs/sam/.ready ## Deploy, and delete, every combination of .taskcat.yml in the account of your AWS profile
	@mkdir -p build/taskcat
	@$(BIN)/tarn package --environment test > build/taskcat/parameters
	@sed -n "/^Adopted/d; s/^\([A-Za-z]*\(Prefix\|Key\|BucketName\)\)=\(.*\)/\1: '\3'/p" build/taskcat/parameters > .taskcat_overrides.yml
	@bucket=$$(sed -n 's/^AssetBucketName=//p' build/taskcat/parameters) && for part in . cicd; do \
	  $(SAM) package --template-file $$part/template.yaml --s3-bucket "$$bucket" --s3-prefix packages \
	    --output-template-file build/taskcat/$$(test $$part = . && echo lake || echo delivery).yaml >/dev/null || exit 1; done
	@for one in $(TASKCAT_TESTS); do .venvs/taskcat/bin/taskcat test run --test-names $$one || exit 1; done

##@ The delivery pipeline (buildspec.yml, cicd/)
SOURCE ?=
.PHONY: bootstrap
bootstrap: .venv/.ready .venvs/sam/.ready ## Make repository or connection, CodePipeline, roles (ENV=dev|test|prod SOURCE=codecommit|connection)
	@$(BIN)/tarn bootstrap --environment $(ENV) --source "$(SOURCE)" $(addprefix --parameter ,$(PARAMETERS))

include cicd/stages.mk

##@ Clean up
.PHONY: clean
clean: ## Remove what was built and the local lakes; the environments stay
	@rm -rf build .tarn .aws-sam .hypothesis .mypy_cache .pytest_cache .ruff_cache
