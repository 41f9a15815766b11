# `make` lists all targets. Everything runs in .venv, into which `make setup` installs requirements.lock.
STUDY   ?= demo
RUNS    ?= runs
REPORTS ?= reports
SEEDS   ?=
DATA    ?=
CLUSTER ?=
IMAGE   ?= ssl-study
ENGINE  ?= docker
BASE_PYTHON ?= python3
EXTRAS  ?=

PYTHON := .venv/bin/python
study_options = --runs "$(RUNS)" --reports "$(REPORTS)" $(if $(DATA),--data "$(DATA)") $(if $(SEEDS),--seeds "$(SEEDS)")

.DEFAULT_GOAL := help
# `make study stl10` would run the study STUDY before make finds that there is no target stl10.
targets := $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST))) .venv/installed .venv/bench
$(foreach word,$(filter-out $(targets),$(MAKECMDGOALS)),$(error there is no target $(word): `make` lists all targets, and a study is given as STUDY=$(word)))
.PHONY: help setup demo doctor test test-unit test-faults test-slurm test-slurm-long lint format data study submit-all status cancel logs tensorboard slurm-up slurm-down report image image-apptainer test-container bench bench-ablation bench-scale bench-learning lock clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16
	@echo
	@echo 'Variables: STUDY=demo|photos-quick|photos-cpu|photos|stl10  DATA=folder that pack or data has made'
	@echo '           RUNS=runs  REPORTS=reports  SEEDS="0 1 2"  CLUSTER=profile  JOB=run  WAIT=1  DRY=1  IMAGE=name  THUMBNAILS=1  LANG=ru'

setup:  ## install the locked packages into .venv (once; 7 GB); EXTRAS=submit only those for submitting (0.3 GB)
	@$(BASE_PYTHON) install.py '$(or $(EXTRAS),dev)'
	@echo 'Next: $(if $(EXTRAS),,`make demo` runs the whole study on synthetic images; )`. .venv/bin/activate` lets this shell find ssl-study.'

# Other targets install only if these files have changed since, and keep the installation's extras.
.venv/installed: pyproject.toml requirements.lock
	@$(BASE_PYTHON) install.py '$(EXTRAS)'

doctor: is-set-up  ## show what this machine has and what a run will use
	@.venv/bin/ssl-study doctor --runs "$(RUNS)"

demo: .venv/installed  ## run the whole study on synthetic images and make its report (three to ten minutes on two cores)
	@.venv/bin/ssl-study demo --runs "$(RUNS)" --reports "$(REPORTS)" $(if $(SEEDS),--seeds "$(SEEDS)")

study: .venv/installed  ## run the study STUDY on this machine, on the images in DATA; run it again to resume
	@.venv/bin/ssl-study study $(STUDY) $(study_options)

# LANG is also the locale of the shell, which is like en_US.UTF-8 and does not choose the report's language.
language := $(if $(filter command,$(origin LANG)),$(LANG),$(filter en ru,$(LANG)))
report: is-set-up  ## make tables, figures and the PDF of STUDY from the runs that exist; LANG=ru: in Russian
	@.venv/bin/ssl-study report $(STUDY) --runs "$(RUNS)" --reports "$(REPORTS)" $(if $(THUMBNAILS),--thumbnails) $(if $(language),--language $(language))

status: is-set-up  ## show the progress of the runs of STUDY
	@.venv/bin/ssl-study status $(STUDY) --runs "$(RUNS)"

cancel: is-set-up  ## stop the study STUDY; each run leaves a checkpoint
	@.venv/bin/ssl-study cancel $(STUDY) --runs "$(RUNS)"

.PHONY: is-set-up
is-set-up:  # for targets that need what an earlier command left, so that they don't install anything
	@test -e .venv/installed || { echo 'make $(MAKECMDGOALS): run `make setup` first; it takes two to ten minutes, once' >&2; exit 2; }

tensorboard: is-set-up  ## show the metrics of all runs of STUDY in the browser, also while they train
	@test -d "$(RUNS)/$(STUDY)" || { echo 'make tensorboard: there are no runs in $(RUNS)/$(STUDY)' >&2; exit 2; }
	@.venv/bin/tensorboard --logdir "$(RUNS)/$(STUDY)"

data: data-given .venv/installed  ## download STL-10 and CIFAR-10 to DATA (STUDY=stl10), or generate the synthetic set there (STUDY=demo)
	@case "$(STUDY)" in \
	stl10) $(PYTHON) -P -m ssl_pkg.data.download "$(DATA)" ;; \
	demo) $(PYTHON) -P -m ssl_pkg.data.download --synthetic "$(DATA)" && echo 'the synthetic set is in $(DATA)' ;; \
	*) echo 'make data: there is nothing to download for STUDY=$(STUDY): give STUDY=stl10, or STUDY=demo for the synthetic set' >&2; exit 2 ;; \
	esac

test: .venv/installed  ## run all unit and integration tests and the (short) fault tests
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest tests/unit --numprocesses 2 --dist loadfile
	$(PYTHON) -m pytest tests/integration tests/faults --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-unit: .venv/installed  ## run the fast unit tests (two minutes)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest tests/unit -m 'not slow' --numprocesses 2 --dist loadfile

test-slurm: .venv/installed  ## run studies with failures and interruptions on a SLURM that is started here (Debian: slurm-wlm, munge, slurmdbd, mariadb-server)
	$(PYTHON) -m pytest tests/slurm

test-slurm-long: .venv/installed  ## the same, also with time limits, dead nodes and ranks, a controller that is down, the queue with accounting, and more interruptions
	SLURM_TESTS=long $(PYTHON) -m pytest tests/slurm

test-faults: .venv/installed  ## run the long fault tests: hundreds of kills, signals, full disks and damaged files
	FAULTS=long $(PYTHON) -m pytest tests/faults tests/integration/test_processes.py

lint: .venv/installed  ## check format, lint, types, imports and the Dockerfile
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/hadolint Dockerfile

format: .venv/installed  ## format the code and apply ruff's automatic fixes
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

submit-all: $(if $(DRY),,cluster-given) is-set-up  ## submit the missing runs of STUDY to CLUSTER; WAIT=1 waits and shows the progress; DRY=1 only prints jobs and costs
	@.venv/bin/ssl-study submit $(STUDY) $(if $(CLUSTER),--cluster "$(CLUSTER)") $(study_options) $(if $(WAIT),--wait) $(if $(DRY),--dry-run)

logs: is-set-up  ## show the end of the log of the run JOB of STUDY, with all its starts; without JOB, list the logs
	@.venv/bin/ssl-study logs $(if $(JOB),"$(JOB)") $(STUDY) --runs "$(RUNS)"

slurm-up: .venv/installed  ## start SLURM on this machine as CLUSTER=testbed (Debian: slurm-wlm, munge); TESTBED="--accounting" (slurmdbd, mariadb-server)
	@$(PYTHON) -P -m slurm.testbed up $(TESTBED)

slurm-down: is-set-up  ## stop that SLURM and its jobs
	@$(PYTHON) -P -m slurm.testbed down --purge

.PHONY: cluster-given
cluster-given:
	@test -n "$(CLUSTER)" || { echo 'make submit-all: give the cluster, such as CLUSTER=testbed; slurm/profiles has one file per cluster' >&2; exit 2; }

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
COMMIT  = $(shell git describe --always --abbrev=12 --dirty=+changes --exclude='*' 2>/dev/null || echo unknown)
TAG     = $(IMAGE):$(VERSION)-$(subst +,-,$(COMMIT))
SANDBOX ?= $(IMAGE).sandbox
BUILD_OPTIONS ?=

image:  ## build the container image IMAGE, tagged with version and commit (two to five minutes); ENGINE=podman
	@command -v $(ENGINE) >/dev/null || { echo 'make image: $(ENGINE) not found; to build with podman, give ENGINE=podman' >&2; exit 2; }
	$(ENGINE) build $(BUILD_OPTIONS) $(if $(PIP_EXTRA_INDEX_URL),--build-arg PIP_EXTRA_INDEX_URL) \
		--build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --tag $(TAG) --tag $(IMAGE):latest .
	@echo 'make image: built $(TAG); `$(ENGINE) run --rm $(IMAGE)` explains its use'

image-apptainer:  ## convert the image to the Apptainer sandbox SANDBOX (or a .sif file), for clusters
	@command -v apptainer >/dev/null || { echo 'make image-apptainer: apptainer not found: run this on a machine that has it' >&2; exit 2; }
	@$(MAKE) --no-print-directory image
	@rm -f $(SANDBOX).tar  # because podman does not overwrite it
	$(ENGINE) save --output $(SANDBOX).tar $(TAG)
	apptainer build --force $(if $(filter %.sif,$(SANDBOX)),,--sandbox) $(SANDBOX) docker-archive:$(SANDBOX).tar
	@rm $(SANDBOX).tar

test-container: .venv/installed  ## build and test the image with Docker (started here if none is running: docker.io, mmdebstrap)
	$(PYTHON) -m pytest tests/container

bench: .venv/bench  ## compare the speed with lightly and torchvision (20 min); writes bench/latest.json
	$(PYTHON) -m bench.speed $(if $(DATA),--data "$(DATA)")

bench-ablation: .venv/bench  ## measure each item of PyTorch's tuning guide (10 min); writes bench/ablation.md
	$(PYTHON) -m bench.ablation $(if $(DATA),--data "$(DATA)")

bench-scale: .venv/bench  ## measure time and memory for a million images and for two processes (5 min)
	$(PYTHON) -m bench.scale

bench-learning: data-given .venv/bench  ## compare accuracies with lightly on DATA after ten minutes of training each (25 min)
	$(PYTHON) -m bench.learning --data "$(DATA)"

.PHONY: data-given
data-given:
	@test -n "$(DATA)" || { echo 'make $(MAKECMDGOALS): give the folder of the images, such as DATA=data/images' >&2; exit 2; }

.venv/bench: .venv/installed
	@$(BASE_PYTHON) install.py dev,bench
	@touch $@

lock: .venv/installed  ## resolve the dependencies in pyproject.toml and write requirements.lock
	.venv/bin/pip-compile --quiet --extra dev --extra bench --strip-extras --no-emit-index-url --no-emit-find-links \
		--unsafe-package ssl-study --output-file requirements.lock pyproject.toml

clean:  ## remove .venv and caches, but not runs and reports
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
