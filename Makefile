# The commands of the project; CI runs the same ones. Requirements: Python 3.11 or newer, make and git.
#   make demo     run the quickstart notebook on the local Skytells, without a key
#   make lab      open the notebooks in JupyterLab
#   make test     every test
#   make check    lint, types, import contracts, spelling, docstrings, the site without warnings
#   make coverage     the tests with coverage; fails below the minimum
#   make test-lowest  a quick part of the tests with the lowest declared versions
#   make test-sdks    other libraries against the local Skytells, in an environment of their own
#   make binder-test  what Binder does with this checkout, in an empty environment; prints seconds and memory
#   make docs         the examples in README and docs, and the documentation site with its notebooks that run in a page
#   make mutants  change the package in N places, chosen by SEED, and check that the tests fail; an hour for N=40
#   make bench    compare with other libraries, half an hour; QUICK=1 with one of them, under three minutes;
#                 GROWTH=1 what calls cost as their rows grow, in CPU and memory, a quarter of an hour
#   make clean    remove everything that these commands created

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Without compiled files each of the hundreds of processes that the tests start would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo lab test test-lowest test-sdks binder-test coverage docs check mutants bench clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.demo
	@$(models)
	@$(BIN)/python -m skytells_nb demo

lab: $(VENV)/.lab
	@$(models)
	@if [ -z "$$SKYTELLS_API_KEY$$SKYTELLS_BASE_URL" ]; then \
	  echo "No SKYTELLS_API_KEY: responses come from the small models on this machine."; \
	  export SKYTELLS_BASE_URL=local; \
	fi; \
	exec $(BIN)/jupyter lab --notebook-dir=notebooks --LabApp.default_url=/lab/tree/00_index.ipynb $$([ "$$(id -u)" = 0 ] && echo --allow-root)

test: $(VENV)/.dev
	@$(models)
	@$(page_modules)
	@$(pyodide_packages)
	@$(jupyterlite)
	$(BIN)/python -m pytest

# Import times are not meaningful under coverage of child processes; only `make test` runs browser tests.
coverage: $(VENV)/.dev
	@$(models)
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not browser" -k "not costs_little"
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

# The parts that depend most on versions of dependencies: frames, files, figures, cells, the client. Left out: engine, cache,
# transport and local models, which use the standard library and numpy; kernels and browsers.
LOWEST := .venv-lowest
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -q -m "not slow and not browser" tests/test_columns.py tests/test_files.py tests/test_config.py \
	  tests/accessor/test_frame.py tests/accessor/structured/test_columns.py tests/accessor/test_parquet.py \
	  tests/accessor/methods/ranking/test_search.py tests/plots/test_plots.py tests/plots/safety_charts/test_overview.py \
	  tests/magics/test_loading.py tests/magics/test_cell.py tests/client/test_chat.py tests/client/test_embeddings.py

# litellm, langchain-openai, instructor and pydantic-ai need another version of openai than the tests, and the OpenAI library for
# Node.js comes from npm: `make test` skips their tests and says so.
SDKS := .venv-sdks
NODE_SDKS := tests/local/sdks/node
test-sdks: $(SDKS)/.installed
	@$(models)
	SKYTELLS_TEST_SDKS=1 $(SDKS)/bin/python -m pytest tests/local/sdks

binder-test:
	$(PYTHON) tests/binder_build.py

site = $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --builder html docs build/site
docs: $(VENV)/.dev
	@$(models)
	$(BIN)/python -m pytest -q tests/test_readme.py tests/test_files.py tests/accessor/test_documented.py tests/test_site_pages.py
	@$(jupyterlite)
	@$(browser_notebooks)
	$(site)
	@echo "The site is build/site/index.html"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell *.md docs notebooks/*.ipynb binder skytells_nb tests benchmarks
	$(BIN)/python -m pytest --quiet tests/test_docstrings.py -k sections
	@$(page_types)
	$(site)

mutants: $(VENV)/.dev
	@$(models)
	$(BIN)/python tests/mutation --seed $(or $(SEED),1) -n $(or $(N),40)

comma := ,
bench: PACING = $(if $(QUICK),quick-pacing,pacing)
bench: STREAMING = $(if $(QUICK),quick-streaming,streaming)
ifdef GROWTH
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.growth $(if $(TEXTS),--texts $(TEXTS)) $(if $(BEFORE),--before $(BEFORE))
else
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.bench $(if $(QUICK),--quick)
	@rm -f benchmarks/results/$(PACING).jsonl
	@rm -f benchmarks/results/$(STREAMING).jsonl
	$(BIN)/python -m benchmarks.streaming --out benchmarks/results/$(STREAMING).jsonl $(if $(QUICK),--only wire --rates 0$(comma)100)
	$(BIN)/python -m benchmarks.pacing --out benchmarks/results/$(PACING).jsonl \
	  $(if $(QUICK),--windows 5 --limits 50 --processes 2 --kinds fixed)
	$(if $(QUICK),,$(BIN)/python -m benchmarks.pacing --no-headers --out benchmarks/results/$(PACING).jsonl)
	$(if $(QUICK),,$(BIN)/python -m benchmarks.maps)
	$(if $(QUICK),,$(BIN)/python -m benchmarks.paint)
endif

clean:
	rm -rf $(VENV) $(LOWEST) $(SDKS) $(LITE) $(NODE_SDKS)/node_modules build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf benchmarks/.venvs benchmarks/.scratch tests/page/node_modules $(PYODIDE)/packages
	find skytells_nb tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each set of packages; if it is newer than pyproject.toml, the packages are installed.
$(VENV)/.demo: pyproject.toml | $(VENV)/.pip
	@echo "Installing what the demo needs (once)"
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/.lab: pyproject.toml | $(VENV)/.pip
	@echo "Installing JupyterLab and the extras (once)"
	@$(PIP) install --editable '.[all,dask]' openai --group lab
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.pip
	@echo "Installing everything for development (once)"
	@$(PIP) install --editable '.[all,keyring]' --group dev
	@touch $@

$(LOWEST)/.installed: pyproject.toml | $(VENV)/.dev
	@echo "Installing the lowest declared versions (once)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	@$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[all,keyring]' --group test
	@touch $@

$(SDKS)/.installed: pyproject.toml $(NODE_SDKS)/package-lock.json | $(VENV)/.dev
	@echo "Installing the libraries that are tried against the local Skytells (once)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SDKS)
	@$(BIN)/uv pip install --quiet --python $(SDKS)/bin/python --editable '.[local]' --group sdks
	@npm --prefix $(NODE_SDKS) ci --no-audit --no-fund --loglevel=error
	@touch $@

# `pip install --group` came with pip 25.1.
$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 …"; \
	  exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

# Without the chat model embeddings and moderation still work, so this never stops a command; the next run tries again.
define models
[ -e $(VENV)/.models ] || { \
  if $(BIN)/python -m skytells_nb local install; then touch $(VENV)/.models; \
  else echo "The chat model could not be fetched: the local Skytells embeds and moderates, but does not chat."; fi; }
endef

# The page scripts' types, axe-core, which looks for barriers on pages, and Pyodide, by the versions of the lock file. CI must have npm; other
# machines may.
PAGE := tests/page
define page_modules
if command -v npm >/dev/null; then \
  [ $(PAGE)/node_modules/.installed -nt $(PAGE)/package-lock.json ] || \
    { npm --prefix $(PAGE) ci --no-audit --no-fund --loglevel=error && touch $(PAGE)/node_modules/.installed; }; \
fi
endef
# What Python in Pyodide needs beside it; without it the test in Pyodide is skipped, and says so.
PYODIDE := tests/pyodide
define pyodide_packages
if [ -d $(PAGE)/node_modules/pyodide ] && \
  ! [ $(PYODIDE)/packages/.installed -nt $(PYODIDE)/packages.txt -a $(PYODIDE)/packages/.installed -nt $(PYODIDE)/fetch.py ]; then \
  echo "Fetching Pyodide's builds of numpy, pandas and pydantic (once)"; \
  $(BIN)/python $(PYODIDE)/fetch.py || echo "They could not be fetched: nothing is tried in Pyodide."; \
fi
endef
# What makes notebooks that run in a page, apart from JupyterLab, which would load its kernel and cannot.
LITE := .venv-lite
define jupyterlite
[ $(LITE)/.installed -nt pyproject.toml ] || \
  { $(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LITE) && \
    $(BIN)/uv pip install --quiet --python $(LITE)/bin/python --group lite && touch $(LITE)/.installed; } || \
  echo "JupyterLite could not be installed: no notebooks that run in a page."
endef
# conf.py takes them into the site.
define browser_notebooks
rm -rf build/extra; \
if [ -e $(LITE)/.installed ] && $(BIN)/python docs/browser/build.py build/extra/browser; then :; \
elif [ "$$CI" = true ]; then echo "The notebooks that run in a page were not made"; exit 1; \
else echo "The site is made without the notebooks that run in a page."; fi
endef
define page_types
if command -v npm >/dev/null; then \
  { $(page_modules); } && npm --prefix $(PAGE) run --silent check && echo "Page scripts: no type errors"; \
elif [ "$$CI" = true ]; then echo "npm is not installed, so the page scripts' types were not checked"; exit 1; \
else echo "Skipped the page scripts' types: npm is not installed (Debian: apt-get install npm)"; fi
endef
