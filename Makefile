# Every target sets up what it needs, once; after that nothing needs the network.
#   make help         lists the targets
#   PYTHON=python3.12 the Python that makes .venv (3.11 or newer; python3 unless named)
#   QUICK=1           the same sweep in little time
#   OUT=DIR           where results go
#   DATA=PATH         text that sweeps train on: a folder, a file, what make curate wrote
#   FULL=1            make emergence with more sizes and seeds
#   FROM=DIR          the run that make limits asks

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help ablation setup setup-data setup-gpu setup-lab setup-test setup-parity smoke sweep sweep-long curate figures lab objectives emergence limits test test-all lint format bench bench-gpu bench-data lock clean

PY := .venv/bin/python
TEXT = $(if $(DATA),--config.base.data.path='$(DATA)')

ifeq ($(filter-out 0,$(QUICK)),)
  SIZE := tiny
  OUT ?= out/sweep
else
  SIZE := quick
  OUT ?= out/quick
endif

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' Makefile | awk -F'|' '{printf "make %-12s %s\n", $$1, $$2}'

sweep: setup ## text -> tokenizer -> tokens -> N x D sweep -> law -> frontier -> report (QUICK=1, OUT=)
	$(PY) -m experiments.sweep --config=configs/sweep.py:$(SIZE) --workdir='$(OUT)' $(TEXT)

sweep-long: OUT := $(if $(filter command%,$(origin OUT)),$(OUT),out/long)
sweep-long: setup ## larger models and budgets, two seeds, a run at 10 times the compute; 30 minutes on 2 idle cores (OUT=)
	$(PY) -m experiments.sweep --config=configs/sweep.py:long --workdir='$(OUT)' $(TEXT)

curate: OUT := $(if $(filter command%,$(origin OUT)),$(OUT),out/curated)
curate: setup-data ## the embedded messy crawl -> clean documents and a report of every drop (OUT=)
	$(PY) -m data.curate --config=configs/curate.py:web --out='$(OUT)'

ablation: OUT := $(if $(filter command%,$(origin OUT)),$(OUT),out/ablation)
ablation: setup-data ## one model on a crawl raw, deduplicated, filtered, curated: what cleaning does (OUT=)
	$(PY) -m experiments.ablation --config=configs/ablation.py --workdir='$(OUT)'

objectives: OUT := $(if $(filter command%,$(origin OUT)),$(OUT),out/objectives)
objectives: setup ## GPT, BERT and T5 at equal compute: curves, masks, probes, a law for each (OUT=)
	$(PY) -m experiments.objectives --workdir='$(OUT)'

smoke: OUT := $(if $(filter command%,$(origin OUT)),$(OUT),out/smoke)
smoke: setup ## does all of it work here: training, kernels, kill and resume, generation, export (OUT=)
	$(PY) -m lm.smoke --workdir='$(OUT)'

emergence: OUT := $(if $(filter command%,$(origin OUT)),$(OUT),out/emergence$(if $(filter-out 0,$(FULL)),-full))
emergence: setup ## five abilities mixed into text: where each starts, and how suddenly (FULL=1 for hours of it, OUT=)
	$(PY) -m experiments.emergence --config=configs/emergence.py:$(if $(filter-out 0,$(FULL)),full,tiny) --workdir='$(OUT)'

limits: OUT := $(if $(filter command%,$(origin OUT)),$(OUT),out/limits)
limits: setup-data ## what pretraining does not do, before and after a fine-tune (OUT=, FROM= a run's folder)
	$(PY) -m experiments.limits --config=configs/limits.py:tiny --workdir='$(OUT)' --from='$(FROM)'

figures: OUT := $(if $(filter command%,$(origin OUT)),$(OUT),out/figures)
figures: setup ## figures of published papers, with published numbers beside ours (OUT=)
	$(PY) -m experiments.figures all --out='$(OUT)'

lab: setup-lab ## an hour of scaling laws for a student, in a browser: docs/lab.ipynb
	.venv/bin/jupyter lab docs/lab.ipynb

test: setup-test ## the quick tests
	$(PY) -m pytest -m 'not slow and not parity' -n 2 --durations=10

test-all: setup-parity setup-cluster ## every test: slow ones and parity with PyTorch too
	.venv-parity/bin/python -m pytest -n 2 --durations=20

lint: setup-test ## ruff (check and format) and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: setup-test ## rewrite the code in the house format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: setup-parity ## training throughput on CPU against PyTorch
	.venv-parity/bin/python -m experiments.bench_train

bench-gpu: setup ## training throughput on one GPU; without one, that the programs call the fused kernel
	$(PY) -m experiments.bench_gpu

bench-data: setup-test ## how fast batches are made, sources read, pages extracted, text tokenized, curated
	$(PY) -m data.bench
	$(PY) -m data.bench_sources
	$(PY) -m data.bench_tokenizer
	$(PY) -m data.bench_curation

setup: ## .venv with the locked core requirements
	@.ci/venv .venv requirements.txt --require-hashes --only-binary :all:

setup-data: setup
	@.ci/venv .venv requirements-data.txt --require-hashes

setup-gpu: setup ## the same environment, for NVIDIA GPUs
	@.ci/venv .venv requirements-gpu.txt --require-hashes

setup-lab: setup
	@.ci/venv .venv requirements-lab.txt --require-hashes

setup-test: setup
	@.ci/venv .venv requirements-test.txt --require-hashes

setup-parity:
	@.ci/venv .venv-parity requirements-parity.txt --require-hashes
	@.ci/venv .venv-parity requirements-torch.txt --no-deps

.PHONY: setup-tpu setup-tpu-cluster setup-cluster

setup-tpu: ## the same environment, for a Cloud TPU host
	@.ci/venv .venv requirements-tpu.txt --require-hashes

setup-tpu-cluster: setup-tpu
	@.ci/venv .venv requirements-cluster.txt --require-hashes

setup-cluster: setup-parity
	@.ci/venv .venv-parity requirements-cluster.txt --require-hashes

lock: ## resolve requirements*.in again (needs uv)
	@.ci/lock

clean: ## remove results and caches; the virtual environments stay
	rm -rf out .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
