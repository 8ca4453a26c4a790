# `make demo` and `make test` are each enough on a machine that has only Python 3.10 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the demonstrations need, and what all else does; the second has the first in it.
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev

.PHONY: demo test coverage lint docs clean

# torch and torchvision come from one resolution: a pair from two sources does not import. On a terminal pip shows how far
# it is, elsewhere it is silent.
COMMA := ,
# On Linux, where PyTorch for CUDA is most of it.
SIZE_DEMO := about 3.3 GB to download, 6.6 GB on the disk, 5 to 15 minutes on a usual line.
SIZE_DEV := about 3.6 GB to download, 7.8 GB on the disk, 5 to 15 minutes on a usual line.
define install
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed, this is " + sys.version)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): $(2)"
	@if test -t 1; then quiet=; else quiet=--quiet; fi; \
	$(BIN)/python -m pip install --quiet --upgrade pip && $(BIN)/python -m pip install $$quiet --editable '.[$(1)]'
endef

$(DEMO): pyproject.toml
	$(call install,demo$(COMMA)delivery,$(SIZE_DEMO))
	@touch $@

$(DEV): pyproject.toml
	$(call install,dev,$(SIZE_DEV))
	@touch $(DEMO) $@

demo: $(DEMO)
	$(BIN)/captum-ext demo --out demo-output --force
	$(BIN)/hdr demo --out demo-output --force
	@echo "All of it is in demo-output:"
	@echo "  photographs.png  what five methods find in four photographs (photographs.csv: the numbers)"
	@echo "  digits.png       what they find in ten scanned digits (digits.csv)"
	@echo "  hdr-demo.png     a bracket of a scene that moves, merged (hdr-demo.exr: the radiance, hdr-demo.jpg: for the screen,"
	@echo "                   hdr-demo-gain-map.jpg and hdr-demo.avif: for displays that show HDR,"
	@echo "                   hdr-demo.html: a page about it, with a slider for the exposure)"

# One thread for each worker: with more, small models wait for each other.
test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

# The same, with what it reaches.
coverage: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup --cov --cov-report=term

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# As the tests build it: a warning is an error.
docs: $(DEV)
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html -d build/doctrees docs build/site
	@echo "The site is build/site/index.html"

clean:
	rm -rf $(VENV) build dist demo-output docs/tutorials/*.ipynb
