# One entry point for people and CI. `make run` and `make test` do everything on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.whichopt-setup
# Tests and training share two cores in CI; one thread per process is also what makes runs repeatable bit for bit.
TEST_THREADS ?= 2
# Rivals have an environment of their own.
RACE := .venv-race
RACE_STAMP := $(RACE)/.whichopt-race-setup
RACE_OPTIONS ?=
EVIDENCE_OPTIONS ?=
ASK_OPTIONS ?=
SCALE_OPTIONS ?=
CHAOS_OPTIONS ?=
SWEEP_OPTIONS ?=

.PHONY: help setup run serve test test-slow sweep sweep-pg chaos lint fmt bench-step bench-engine bench-engine-gpu \
	bench-study bench-evidence bench-search bench-start bench-own bench-ask bench-service bench-listeners bench-scale gpu-check \
	wheel-optim clean
help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make .venv with the console script `whichopt` (instant when nothing changed)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (a few minutes the first time: PyTorch is large) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# A test oracle. Alone: the rest of it wants torchvision, which has no build for every PyTorch.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps timm
	@# For the test of the API's document. Alone, too: it asks for an older typer than ours, and works with it.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps openapi-python-client
	@touch $@

run: setup ## the main job: a recommendation for examples/digits.yaml
	@$(BIN)/whichopt recommend examples/digits.yaml

serve: setup ## API, dashboard and local workers on http://127.0.0.1:8000
	@$(BIN)/whichopt serve

test: setup ## the whole suite: lint, types, architecture, every test
	@$(MAKE) --no-print-directory lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_THREADS) --dist loadgroup -m "not slow and not gpu"

test-slow: setup ## the long proofs
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_THREADS) --dist loadgroup -m slow

sweep: setup ## a process ended before and after each of its commits, or told to, on SQLite (about 15 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.reliability.sweep $(SWEEP_OPTIONS)

sweep-pg: setup ## a process ended before and after each of its commits, on PostgreSQL (about 15 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.reliability.sweep --database postgres

chaos: setup ## a cluster under strikes for 3 minutes, or CHAOS_OPTIONS="--minutes 30 --out report.json"
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.reliability.chaos $(CHAOS_OPTIONS)

lint: setup ## ruff, pyright, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

fmt: setup ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench-step: setup ## step time of every optimizer against torch and pytorch_optimizer (about 40 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.optimizer_step --out auto

bench-engine: setup ## trial-steps per second against plain torch, compiled, processes, torch.func (about 25 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.engine --out auto

bench-engine-gpu: setup ## the same on the first GPU
	@$(BIN)/python -m benchmarks.engine --device cuda --out auto

bench-own: setup ## people's modules, many at once against their own loop (about 6 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.own_modules --out auto

gpu-check: setup ## for whoever has a GPU: its tests, modules, networks and a study, into one JSON (at most 8 minutes)
	@$(BIN)/python -m benchmarks.gpu_check

bench-study: setup ## whole studies against the same ones trained one trial after the other (about 5 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.study --out auto

bench-evidence: setup ## do intervals cover, are claims true (about 30 minutes, or EVIDENCE_OPTIONS=--quick)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.evidence $(or $(EVIDENCE_OPTIONS),--out auto)

bench-ask: setup ## ask, report and tell of 32 clients at once, beside Optuna's gRPC proxy and OSS Vizier (about 10 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ask_tell $(ASK_OPTIONS)

bench-service: setup ## mixed load, too much of it, units, uploads and news, each beside its goal (about 20 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.service $(SERVICE_OPTIONS)

bench-listeners: setup ## what a thousand event streams cost while nothing happens (about a minute)
	@$(BIN)/python -m benchmarks.listeners

bench-scale: setup ## what 64 to 1,000 workers and a million trials cost, without training; draws docs/scale.md (about 40 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scale $(or $(SCALE_OPTIONS),--sizes --out auto)

$(RACE_STAMP): benchmarks/race/requirements.txt
	@test -x $(RACE)/bin/python || $(PYTHON) -m venv $(RACE)
	@echo "Setting up $(RACE) (a few minutes the first time) ..."
	@$(RACE)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/race/requirements.txt
	@touch $@

bench-search: setup $(RACE_STAMP) ## Whichopt against other tuners, quick; more with RACE_OPTIONS (about 10 minutes; first makes .venv-race)
	@$(RACE)/bin/python -m benchmarks.race.run $(or $(RACE_OPTIONS),--quick)

bench-start: setup ## from the command to the first training step, and from the answer to the prompt (about a minute)
	@$(BIN)/python -m benchmarks.start --out auto

wheel-optim: setup ## dist/whichopt_optim-….whl: the optimizers alone, for training environments
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist ./optim_core

clean: ## remove the environment and caches
	rm -rf $(VENV) $(RACE) .pytest_cache .ruff_cache .hypothesis
