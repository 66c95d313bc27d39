# make demo       install and run the main job          make test       install and pass the tests
# make check      lint and types                        make test-slow  the long tests
# make crash      workers and schedulers killed, servers stopped, disks full: 20 minutes
# make soak       the same at random, for half an hour: MINUTES=120 for longer
# make bench      the figures of the READMEs            make train      the bundled models, from nothing (hours)

PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

MINUTES ?= 30
JOBS ?= 3

.PHONY: demo test crash test-slow soak check bench train clean

demo: $(STAMP)
	$(RUN)ponderosa demo

test: $(STAMP)
	$(RUN)python -m pytest -m "not slow and not crash" -n $(JOBS) --dist loadfile

crash: $(STAMP)
	$(RUN)python -m pytest -m "crash and not slow"

test-slow: $(STAMP)
	$(RUN)python -m pytest -m slow

soak: $(STAMP)
	$(RUN)python tests/soak.py --minutes $(MINUTES)

check: $(STAMP)
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy

bench: $(STAMP)
	$(RUN)python -m flows.figures.models
	$(RUN)python -m flows.figures.curves
	$(RUN)python -m flows.figures.first_finish
	$(RUN)python -m flows.figures.votes
	$(RUN)python -m flows.figures.strategies
	for what in dice countdown; do $(RUN)python -m flows.figures.noise $$what; done
	$(RUN)python -m flows.figures.core
	$(RUN)python -m flows.figures.drafting
	for what in help run; do $(RUN)python -m flows.figures.start $$what; done
	for what in persist share resume million; do $(RUN)python -m flows.figures.durable $$what; done
	for what in demo slow; do $(RUN)python -m flows.figures.overhead $$what; done
	for what in cancel terminate; do $(RUN)python -m flows.figures.workers $$what; done
	for what in sharing writers cluster; do $(RUN)python -m flows.figures.$$what; done
	$(RUN)python -m flows.figures.pool cost
	for what in sweep million export; do $(RUN)python -m flows.figures.asking $$what; done

train: $(STAMP)
	$(RUN)python -m pipelines.train

# torch comes first and alone: a range that another package states must not draw in a newer build with CUDA
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) 2>/dev/null || python3 -m venv $(VENV)
	$(RUN)pip install -q -c constraints.txt torch
	$(RUN)pip install -q -c constraints.txt -e ".[dev]"
	$(RUN)python -m pipelines.engine
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info
