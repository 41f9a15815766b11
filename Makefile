# `make` lists what there is. Everything runs from .venv, which `make setup` fills from requirements.lock.
STUDY   ?= demo
RUNS    ?= runs
REPORTS ?= reports
SEEDS   ?=
DATA    ?=
CLUSTER ?=
IMAGE   ?= ssl-study
ENGINE  ?= docker
BASE_PYTHON ?= python3
EXTRAS  ?= dev

PYTHON := .venv/bin/python
study_options = --runs "$(RUNS)" --reports "$(REPORTS)" $(if $(DATA),--data "$(DATA)") $(if $(SEEDS),--seeds "$(SEEDS)")

.DEFAULT_GOAL := help
# make would do what it knows of `make study stl10` before it misses a target of the last name.
targets := $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST))) .venv/installed .venv/bench
$(foreach word,$(filter-out $(targets),$(MAKECMDGOALS)),$(error there is no target $(word): `make` lists them, and variables are given like STUDY=$(word)))
.PHONY: help setup demo test test-unit test-faults test-slurm test-slurm-long lint format data study submit-all status cancel logs slurm-up slurm-down report image image-apptainer test-container bench bench-ablation bench-scale bench-learning lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16
	@echo
	@echo 'Variables: STUDY=demo|photos-quick|photos|stl10  DATA=folder with stl10_binary/ and CIFAR-10'
	@echo '           RUNS=runs  REPORTS=reports  SEEDS="0 1 2"  CLUSTER=profile  JOB=run  WAIT=1  IMAGE=name'

setup: .venv/installed  ## make .venv with the locked packages (once; two minutes)

.venv/installed: pyproject.toml requirements.lock
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make setup needs Python 3.11 or newer; give BASE_PYTHON=python3.11")'
	@echo 'make setup: the locked packages go into .venv, once; about two minutes'
	@$(BASE_PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --constraint requirements.lock --editable '.[$(EXTRAS)]'
	@touch $@

demo: setup  ## the whole study on synthetic images, and its report (ten minutes on two cores)
	@$(PYTHON) -P -m jobs study demo --runs "$(RUNS)" --reports "$(REPORTS)" $(if $(SEEDS),--seeds "$(SEEDS)")

study: setup  ## the study STUDY on this machine, on the images in DATA; run it again to go on
	@$(PYTHON) -P -m jobs study $(STUDY) $(study_options)

report: is-set-up  ## tables, figures and the PDF of STUDY, from whatever has been run
	@$(PYTHON) -P -m analysis "$(RUNS)/$(STUDY)" --out "$(REPORTS)/$(STUDY)"

status: is-set-up  ## how far the runs of STUDY are
	@$(PYTHON) -P -m jobs status $(STUDY) --runs "$(RUNS)"

cancel: is-set-up  ## stop the running study STUDY; each run leaves a checkpoint
	@$(PYTHON) -P -m jobs cancel $(STUDY) --runs "$(RUNS)"

.PHONY: is-set-up
is-set-up:  # for what only looks: no two minutes of set-up before the answer that there is nothing to see
	@test -e .venv/installed || { echo 'make $(MAKECMDGOALS): `make setup` comes first; it takes two minutes, once' >&2; exit 2; }

data: data-given setup  ## with STUDY=stl10 fetch STL-10 and CIFAR-10 into DATA, with STUDY=demo generate the synthetic set there
	@case "$(STUDY)" in \
	stl10) $(PYTHON) -P -m ssl_pkg.data.download "$(DATA)" ;; \
	demo) $(PYTHON) -P -m ssl_pkg.data.synthetic "$(DATA)" && echo 'the synthetic set is in $(DATA)' ;; \
	*) echo 'make data: there is nothing to fetch for STUDY=$(STUDY): give STUDY=stl10, or STUDY=demo for the synthetic set' >&2; exit 2 ;; \
	esac

test: test-unit  ## all tests, those of faults in their short form
	$(PYTHON) -m pytest tests/integration tests/faults

test-unit: setup  ## the fast tests
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest tests/unit --numprocesses 2 --dist loadfile

test-slurm: setup  ## studies on a real SLURM, started here: sent, failed, healed, in storms (Debian: slurm-wlm, munge)
	$(PYTHON) -m pytest tests/slurm

test-slurm-long: setup  ## also time limits, dead nodes and ranks, an absent controller
	SLURM_TESTS=long $(PYTHON) -m pytest tests/slurm

test-faults: setup  ## kills, signals, full disks and hostile files by the hundred
	FAULTS=long $(PYTHON) -m pytest tests/faults tests/integration/test_processes.py

lint: setup  ## format check, lint, types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/hadolint Dockerfile

format: setup  ## format the code and mend what can be mended by itself
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

submit-all: cluster-given is-set-up  ## send what is missing of STUDY to the cluster CLUSTER; WAIT=1 stays and shows it
	@$(PYTHON) -P -m jobs submit $(STUDY) --cluster "$(CLUSTER)" $(study_options) $(if $(WAIT),--wait)

logs: is-set-up  ## the end of the log of the run JOB of STUDY, all its starts in order
	@test -n "$(JOB)" || { echo 'make logs: give the run, like JOB=pretrain-simclr-s0; `make status` shows them' >&2; exit 2; }
	@$(PYTHON) -P -m jobs logs "$(JOB)" $(STUDY) --runs "$(RUNS)"

slurm-up: setup  ## start a SLURM on this machine, CLUSTER=testbed (Debian: slurm-wlm, munge); TESTBED="--accounting"
	@$(PYTHON) -P -m slurm.testbed up $(TESTBED)

slurm-down: is-set-up  ## end that SLURM, its jobs too
	@$(PYTHON) -P -m slurm.testbed down --purge

.PHONY: cluster-given
cluster-given:
	@test -n "$(CLUSTER)" || { echo 'make submit-all: give the cluster, like CLUSTER=testbed; slurm/profiles holds them' >&2; exit 2; }

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
COMMIT  = $(shell git describe --always --abbrev=12 --dirty=+changes --exclude='*' 2>/dev/null || echo unknown)
TAG     = $(IMAGE):$(VERSION)-$(subst +,-,$(COMMIT))
SANDBOX ?= $(IMAGE).sandbox
BUILD_OPTIONS ?=

image:  ## build the container image IMAGE, its tag the version and commit (two to five minutes); ENGINE=podman
	@command -v $(ENGINE) >/dev/null || { echo 'make image: $(ENGINE) not found; ENGINE=podman takes podman' >&2; exit 2; }
	$(ENGINE) build $(BUILD_OPTIONS) $(if $(PIP_EXTRA_INDEX_URL),--build-arg PIP_EXTRA_INDEX_URL) \
		--build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --tag $(TAG) --tag $(IMAGE):latest .
	@echo 'make image: $(TAG) is there; `$(ENGINE) run --rm $(IMAGE)` tells how to use it'

image-apptainer:  ## the image as Apptainer's sandbox SANDBOX (or .sif), for clusters
	@command -v apptainer >/dev/null || { echo 'make image-apptainer: apptainer not found: run it where it is' >&2; exit 2; }
	@$(MAKE) --no-print-directory image
	@rm -f $(SANDBOX).tar  # which podman doesn't write over
	$(ENGINE) save --output $(SANDBOX).tar $(TAG)
	apptainer build --force $(if $(filter %.sif,$(SANDBOX)),,--sandbox) $(SANDBOX) docker-archive:$(SANDBOX).tar
	@rm $(SANDBOX).tar

test-container: setup  ## the image, built and run in a real engine (started here if none answers: docker.io, mmdebstrap)
	$(PYTHON) -m pytest tests/container

bench: .venv/bench  ## speed beside lightly and torchvision (20 min), into bench/latest.json
	$(PYTHON) -m bench.speed $(if $(DATA),--data "$(DATA)")

bench-ablation: .venv/bench  ## what each item of PyTorch's tuning guide gives here, into bench/ablation.md (10 min)
	$(PYTHON) -m bench.ablation $(if $(DATA),--data "$(DATA)")

bench-scale: .venv/bench  ## a million images, two processes: how cost and memory grow (5 min)
	$(PYTHON) -m bench.scale

bench-learning: data-given .venv/bench  ## what ours and lightly's have learnt on DATA after ten minutes each (25 min)
	$(PYTHON) -m bench.learning --data "$(DATA)"

.PHONY: data-given
data-given:
	@test -n "$(DATA)" || { echo 'make $(MAKECMDGOALS): give the folder of the images, like DATA=data/images' >&2; exit 2; }

.venv/bench: .venv/installed
	.venv/bin/pip install --quiet --constraint requirements.lock --editable '.[dev,bench]'
	@touch $@

lock: setup  ## resolve pyproject.toml anew into requirements.lock
	.venv/bin/pip-compile --quiet --extra dev --extra bench --strip-extras --no-emit-index-url --no-emit-find-links \
		--unsafe-package ssl-study --output-file requirements.lock pyproject.toml

clean:  ## remove .venv and caches; runs and reports stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
