# Everything that people and CI call. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of torch is what `pip install torch==2.13.0` takes where one is preferred; another build: TORCH=...
TORCH ?= torch==2.13.0
SOURCES := api bench client common demo migrations tests worker

.DEFAULT_GOAL := help
.PHONY: help install demo up test lint format unit slow fuzz mutants soak chaos containers audit bench train-demo clean

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/installed ## make the virtual environment and install everything into it

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Kiln needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "This Python cannot make virtual environments. On Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[worker,local,dev]"
	@touch $@

demo: install ## start everything, paint one picture, stop everything
	@$(BIN)/python -m client demo

up: install ## start everything and stay until Ctrl-C
	@$(BIN)/python -m client up

test: install lint ## lint, types and the whole suite, on servers it starts itself
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install ## ruff and mypy
	$(BIN)/python -m ruff check $(SOURCES)
	$(BIN)/python -m ruff format --check $(SOURCES)
	$(BIN)/python -m mypy

format: install ## let ruff mend what it can
	$(BIN)/python -m ruff check --fix $(SOURCES)
	$(BIN)/python -m ruff format $(SOURCES)

unit: install ## the tests that need no server, in seconds
	$(BIN)/python -m pytest tests/unit tests/rules

slow: install ## the full Stable Diffusion shape on random weights, torch.compile, 10,000 steps of the lease (minutes, 7 GiB)
	$(BIN)/python -m pytest -m slow

fuzz: install ## hostile input at all that reads input, for FUZZ_MINUTES (10)
	FUZZ_MINUTES=$(or $(FUZZ_MINUTES),10) $(BIN)/python -m pytest tests/unit/test_fuzz.py tests/api/test_fuzz.py tests/api/test_links.py --timeout 7200

mutants: install ## change lease.py and settle.py in 400 ways, and see that tests notice (docs/mutants.md; half an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "mutmut>=3.8,<4"
	$(BIN)/python -m tests.mutants

soak: install ## 2,000 jobs at full speed: does memory grow, is anything left open?
	$(BIN)/python -m tests.chaos.soak

chaos: install ## hurt a real Kiln, and let a checker say what became of its jobs: half an hour (QUICK=1: 5 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(if $(QUICK),--quick) $(if $(OUTPUT),--output $(OUTPUT) --resume)

containers: ## build the images and go through the README's commands on a Docker made for it (root; 25 minutes, 8 GB)
	$(PYTHON) -m tests.containers.host

audit: install ## ask the advisory databases about every pinned version (needs the internet)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.9,<3"
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

bench: install ## speed and memory against Kiln's peers, as ratios of interleaved runs (an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m bench

train-demo: install ## train the demo model again, from nothing: hours on two cores; stop it and go on at will
	$(BIN)/python -m demo.train

clean: ## remove the virtual environment and caches; .kiln, with your jobs and pictures, stays
	rm -rf $(VENV) .containers .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
