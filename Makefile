# Two commands set everything up on a fresh machine: `make figures` and `make test`.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ZOO_STAMP := $(VENV)/.zoo
PYTHON ?= python3
PROFILE ?= quick
JOBS ?= 2
SEED ?=
PICTURES := tiny_symptoms tiny_normalisation remedy_ranking cifar_cloning language agents
export OMP_NUM_THREADS := 1
export SYMPY_GROUND_TYPES := python
export SOURCE_DATE_EPOCH := 1700000000
unexport PYTHONDONTWRITEBYTECODE
PYTEST_RUN = $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(if $(SEED),--hypothesis-seed=$(SEED))

.PHONY: help figures zoo fuzz test test-all verify prove results notebooks site release bench lint clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# --no-compile: what is imported is compiled then; compiling all that is installed takes as long as installing it
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	touch $@

figures: $(STAMP)  ## the claims table and every figure, on embedded data (PROFILE=quick|full)
	$(BIN)/lop claims
	$(BIN)/lop figures --profile $(PROFILE) --jobs $(JOBS)

test: $(STAMP)  ## all tests but the slow ones, evidence into .build/evidence.json (SEED=n repeats the draws of a run)
	$(PYTEST_RUN) -m "not slow" --evidence .build/evidence.json $(PYTEST)

test-all: $(STAMP)  ## all tests, slow ones too
	$(PYTEST_RUN) --evidence .build/evidence.json $(PYTEST)

verify: $(STAMP)  ## run the evidence of every claim; write claims/evidence.json and the pages made of it
	HYPOTHESIS_PROFILE=ci $(PYTEST_RUN) -m "claim or control" --evidence claims/evidence.json $(PYTEST)
	$(BIN)/lop claims --write

prove: $(STAMP)  ## compile and check the Coq proofs; installs Coq on Debian and Ubuntu, after asking (YES=1: without)
	theory/formal/install.sh $(if $(YES),--yes)
	$(BIN)/python -m claims.formal --build .build/coq
	COMPILED_PROOFS=.build/coq $(BIN)/pytest -q -m slow tests/theory/test_formal.py

results: $(STAMP)  ## RESULTS.md and the figures that it shows, from the records below results/
	$(BIN)/lop figures $(PICTURES)
	cp $(foreach name,$(PICTURES),$(foreach kind,png txt,paper_figures/out/$(name).$(kind))) docs/
	$(BIN)/lop results --write

notebooks: $(STAMP)  ## execute the notebooks into notebooks/out (.ipynb and HTML)
	$(BIN)/python -m notebooks.build

site: $(STAMP)  ## the site, into site/: claims, documentation, notebooks, explorers (figures as last drawn)
	$(BIN)/python -m lop.site.build --jobs $(JOBS)

release: site  ## wheel, sources and the site as an archive, into dist/
	$(BIN)/python -m lop.site.release

fuzz: $(STAMP)  ## N networks (1000), each certified and then trained for 60 steps; SEED=n for other ones
	$(BIN)/python -m tests.fuzz --n $(or $(N),1000) --seed $(or $(SEED),0)

# timm asks for torchvision, whose wheel for CUDA breaks a torch for CPU, and needs none of it for its networks
$(ZOO_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[zoo]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps -c constraints.txt timm
	touch $@

zoo: $(ZOO_STAMP)  ## architectures of transformers, timm, stable-baselines3 and torch before all tools; writes docs/zoo.md
	$(BIN)/python -W ignore -m tests.zoo --write --jobs $(JOBS)

bench: $(STAMP)  ## timings and scaling, as ratios measured in one run
	$(BIN)/python -m tests.bench

lint: $(STAMP)  ## ruff, mypy, codespell
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/codespell

clean:  ## remove the environment, caches and generated output
	rm -rf $(VENV) .build build dist site *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache paper_figures/out notebooks/out
