# Two commands on a fresh machine with Python 3.11 or 3.12:
#   make demo   pre-train, fine-tune and evaluate on rendered scenes; pictures under output/demo
#   make test   the test suite
# And the documentation as a site: make docs. All create .venv first (make setup) and install only what is missing.

VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check install -q --progress-bar off
# The first interpreter that really runs and is 3.11 or 3.12 (a pyenv shim may exist without running).
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && { echo $$p; break; }; done)
# Processes that share the test suite, each of one thread and up to 2 GB.
JOBS   ?= 2
# Rewritten when a file that decides the installation changes.
STAMP  := $(VENV)/.installed

.PHONY: setup demo test lint notebook docs clean

setup: $(STAMP)

$(STAMP): constraints.txt setup.py pixpro_d2/install_detectron2.py
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found: install one, or name it as 'make setup PYTHON=/path/to/python'."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { echo "$(PYTHON) is not Python 3.11 or 3.12: name one as 'make setup PYTHON=/path/to/python'."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) could not make a virtual environment: install its venv module (Debian: python3-venv)."; exit 1; }
	@echo "Installing torch, detectron2 and the rest into $(VENV) (several GB the first time) ..."
	@constraints="-c constraints.txt"; \
	if $(PY) -m pixpro_d2.install_detectron2 --find-official; then constraints=; else \
		$(PIP) $$constraints setuptools wheel torch torchvision || { echo "pip could not install torch and torchvision: check the network and pip's index settings, then run make again."; exit 1; }; \
		$(PY) -m pixpro_d2.install_detectron2 --constraint constraints.txt || exit 1; \
	fi; \
	$(PIP) $$constraints --no-build-isolation -e '.[dev]' || { echo "pip could not install pixpro_d2's dependencies: its message is above."; exit 1; }
	@$(PY) -m pip --disable-pip-version-check check
	@touch $(STAMP)

demo: setup
	@$(PY) -m pixpro_d2.tools.demo --output output/demo

test: setup
	@$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

notebook: setup
	@PATH="$(abspath $(VENV))/bin:$$PATH" jupyter execute --inplace --NotebookClient.coalesce_streams=True \
		--NotebookClient.record_timing=False notebooks/demo.ipynb

docs: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "wrote build/site/index.html"

$(VENV)/.docs: $(STAMP)
	@constraints="-c constraints.txt"; \
	if $(PY) -m pixpro_d2.install_detectron2 --find-official; then constraints=; fi; \
	$(PIP) $$constraints --no-build-isolation -e '.[docs]' || { echo "pip could not install mkdocs: its message is above."; exit 1; }
	@touch $@

clean:
	rm -rf output build .pytest_cache .ruff_cache *.egg-info
