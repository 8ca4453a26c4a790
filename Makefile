# `make demo` and `make test` are each enough on a machine that has only Python 3.10 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint docs clean

# torch and torchvision come from one resolution: a pair from two sources does not import.
$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/captum-ext demo --out demo-output --force
	$(BIN)/hdr demo --out demo-output --force

# One thread for each worker: with more, small models wait for each other.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# As the tests build it: a warning is an error.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html -d build/doctrees docs build/site
	@echo "The site is build/site/index.html"

clean:
	rm -rf $(VENV) build dist demo-output docs/tutorials/*.ipynb
