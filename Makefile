# EMIS Streams: `make run` and `make test` do all set-up; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
SOAK ?= 60
UV := build/uv/bin/uv
SYNC := $(UV) pip sync --quiet --compile-bytecode --python .venv --require-hashes
INSTALL_US := $(UV) pip install --quiet --python .venv --no-deps --no-build-isolation --editable .

help:  ## List what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 20
run: system-run .venv/.runtime  ## Set up and start everything with sample data (ARGS="--brokers 3 --classes 100000 …")
	@exec $(BIN)/emis-streams up $(ARGS)
run-services: system-run .venv/.runtime  ## The same with gateway, users, lessons and progress: five processes (ARGS="…")
	@exec $(BIN)/emis-streams up --services --one-process $(ARGS)
down: .venv/.runtime  ## End what `make run` left running
	@$(BIN)/emis-streams down
test: check  ## Set up and run all checks and tests (ARGS="-k lag tests/unit …")
	@exec $(BIN)/pytest -n 2 --dist loadfile --durations=15 $(ARGS)
test-unit: .venv/.dev  ## The unit tests alone, without brokers, databases and browsers (100 seconds)
	@exec $(BIN)/pytest -n 2 --quiet tests/unit $(ARGS)
check: system-test .venv/.dev  ## Style, types and the rule of who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
bench: system-bench .venv/.dev  ## Measure this worker and its peers side by side (long; ARGS="--help")
	@exec $(BIN)/python -m benchmarks $(ARGS)
faults-ci: system-faults .venv/.dev  ## The faults that every push has to stand, on real processes (up to 10 minutes)
	@exec $(BIN)/python -m tests.faults --set ci
faults: system-faults .venv/.dev  ## All of them, and mistakes that they have to find (45 minutes; ARGS="--rows 4 …")
	@failed=0; $(BIN)/python -m tests.faults $(ARGS) || failed=1; \
	  $(if $(ARGS),,$(BIN)/python -m tests.faults --mutants || failed=1;) exit $$failed
faults-long: system-faults .venv/.dev  ## Five seeds, then an hour with a fault every minute (some hours; SOAK=minutes)
	@failed=0; for seed in 1 2 3 4 5; do $(BIN)/python -m tests.faults --seed $$seed || failed=1; done; \
	  $(BIN)/python -m tests.faults --soak $(SOAK) || failed=1; exit $$failed
load: system-test .venv/.dev  ## Ask the pages more than they can answer, and as clients that mean no good; 10,500 open pages (7 minutes; ARGS="pages")
	@exec $(BIN)/python -m tests.faults.load $(ARGS)
screenshots: system-test .venv/.dev  ## Take the pictures of the README from what `make run` runs (ARGS="http://127.0.0.1:6066")
	@exec $(BIN)/python scripts/screenshots $(ARGS)
lock:  ## Pin the newest allowed versions, with hashes
	for name in runtime dev uv; do $(UV) pip compile --python-version 3.11 --upgrade --generate-hashes \
	  --no-header --no-emit-index-url --no-emit-find-links -q -o requirements/$$name.txt requirements/$$name.in; done
sbom: .venv/.dev  ## Write the list of packages that run in production as CycloneDX: build/sbom.cdx.json
	$(BIN)/cyclonedx-py requirements --output-reproducible --output-file build/sbom.cdx.json requirements/runtime.txt
licences: .venv/.dev  ## Print the licences of those packages; fails if one is not allowed
	@$(BIN)/python scripts/licences --check
clean:  ## Delete what was set up or measured here; data/ stays (emis-streams up --fresh empties that)
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
system-%:
	@PYTHON=$(PYTHON) scripts/system-packages $*
.PHONY: help run run-services down test test-unit check bench faults-ci faults faults-long load screenshots lock sbom licences clean

# Stamps: a second run finds them and is quick. What development needs includes what running needs.
$(UV): requirements/uv.txt | system-python
	$(PYTHON) -m venv --clear build/uv
	build/uv/bin/python -m pip install --quiet --require-hashes --requirement requirements/uv.txt
	@touch $@
.venv/pyvenv.cfg: | $(UV)
	$(UV) venv --quiet --python $(PYTHON) .venv
.venv/.runtime: requirements/runtime.txt setup.cfg | .venv/pyvenv.cfg
	$(SYNC) requirements/runtime.txt
	$(INSTALL_US)
	@touch $@
.venv/.dev: requirements/dev.txt setup.cfg | .venv/pyvenv.cfg
	$(SYNC) requirements/dev.txt
	$(INSTALL_US)
	@touch .venv/.runtime $@
