# The one way to run things: every target makes .venv and installs what it needs by itself.
# `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
LAB_ARGS ?=
BENCH_ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

comma := ,

# A stamp is written only after its installation succeeded, so a failed or interrupted one is repeated.
LAB_STAMP := $(VENV)/.installed-lab
TEST_STAMP := $(VENV)/.installed-test
SITE_STAMP := $(VENV)/.installed-site

# JupyterLab asks about news, looks for updates and lists extensions over the network: the course works without one.
# news_url=None alone does not silence the question; the settings folder (overrides.json) does, and writes nothing.
LAB_OFFLINE := --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	--LabApp.extension_manager=readonly "--LabApp.app_settings_dir=$(CURDIR)/scripts/lab_settings"

# The printed address leads to the lesson too, for those whose browser is on another machine.
LAB_START := notebooks/00_start_here.ipynb --LabApp.default_url=/lab/tree/00_start_here.ipynb

# Two lessons side by side, or a lesson and a training run: threads that wait soon sleep (aacn_lib/processes.py has the
# measurements). OpenMP reads this when it is loaded, so it must stand in the environment of every kernel.
export GOMP_SPINCOUNT ?= 1000

# Jupyter refuses to run as root unless told so (containers, some cloud machines).
AS_ROOT := $(shell [ "$$(id -u 2>/dev/null)" = 0 ] && echo --allow-root)

.DEFAULT_GOAL := help
.PHONY: help lab test lint test-floors test-colab notebooks site bench dist
# Recipes share .venv: two of them at once (make -j) would write into it together.
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

lab: $(LAB_STAMP) ## open the course in JupyterLab (LAB_ARGS="--no-browser" passes options)
	$(BIN)/jupyter lab $(LAB_START) $(AS_ROOT) $(LAB_OFFLINE) $(LAB_ARGS)

# run_tests PYTHON: everything but the lint step, with that Python.
define run_tests
	@echo "== tests"
	@$(1) -m pytest tests --durations=10 || { echo "FAILED: pytest tests"; exit 1; }
	@echo "== notebooks"
	@$(1) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=120 --durations=20 notebooks \
		|| { echo "FAILED: notebooks under nbval"; exit 1; }
endef

test: lint ## lint, unit tests, exercise checks, browser test, every notebook
	$(call run_tests,$(BIN)/python)

lint: $(TEST_STAMP) ## what a commit is checked for: ruff, and the floors of the house
	@echo "== lint"
	@$(BIN)/ruff check . || { echo "FAILED: ruff check"; exit 1; }
	@$(BIN)/ruff format --check . || { echo "FAILED: ruff format --check (ruff format . repairs it)"; exit 1; }
	@$(BIN)/lint-imports --no-logo || { echo "FAILED: import-linter (CONTRIBUTING.md draws the house)"; exit 1; }

test-floors: .venv-floors/.installed ## tests and notebooks with every dependency at its lowest version, in .venv-floors
	$(call run_tests,.venv-floors/$(notdir $(BIN))/python)

test-colab: .venv-colab/.installed ## tests and notebooks with what a Colab session has, in .venv-colab
	$(call run_tests,.venv-colab/$(notdir $(BIN))/python)

dist: $(TEST_STAMP) ## build wheel and sdist into dist/, try the wheel in an empty environment
	$(BIN)/python scripts/make_dist.py

notebooks: $(TEST_STAMP) ## execute the lessons in place (NAMES="00 04" for some)
	$(BIN)/python scripts/run_notebooks.py $(NAMES)

site: $(SITE_STAMP) ## build the course as a web site into site/_build/html, no network needed
	$(BIN)/python scripts/make_site.py

bench: $(LAB_STAMP) ## time and memory of the layer, ten minutes (BENCH_ARGS="--quick" for seconds)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# make_venv NAME EXTRAS: one installer at a time; mkdir is the lock, because it exists everywhere and is atomic.
define make_venv
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "$(PYTHON) was not found: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3.11 …"; exit 1; }
	@mkdir -p $(VENV)
	@if ! mkdir $(VENV)/.make-lock 2>/dev/null; then \
		sleep 1; owner=$$(cat $(VENV)/.make-lock/pid 2>/dev/null); \
		if [ -n "$$owner" ] && kill -0 "$$owner" 2>/dev/null; then \
			echo "another make (process $$owner) is installing into $(VENV): try again when it is done"; exit 1; \
		fi; \
	fi; \
	mkdir -p $(VENV)/.make-lock; echo $$$$ > $(VENV)/.make-lock/pid; \
	trap 'rm -rf $(VENV)/.make-lock' EXIT; trap 'exit 130' INT TERM; \
	if [ -f $(LAB_STAMP) ] || [ -f $(TEST_STAMP) ] || [ -f $(SITE_STAMP) ]; then echo "updating $(VENV)"; \
	else echo "first time: installing about 5 GB, one to three minutes"; fi; \
	{ [ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1; } || $(PYTHON) -m venv $(VENV) || exit 1; \
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[$(2)]' \
		|| { echo "FAILED: the installation; run the same command again to continue"; exit 1; }; \
	touch $(1)
endef

$(LAB_STAMP): pyproject.toml
	$(call make_venv,$@,lab$(comma)fast)

$(SITE_STAMP): pyproject.toml
	$(call make_venv,$@,site)

# What the tests need contains what the lab and the site need.
$(TEST_STAMP): pyproject.toml
	$(call make_venv,$@ $(LAB_STAMP) $(SITE_STAMP),lab$(comma)fast$(comma)test$(comma)site)

.venv-%/.installed: pyproject.toml tests/environments/colab.txt scripts/make_environment.py
	@echo "making .venv-$*: about 5 GB, one to three minutes"
	@$(PYTHON) scripts/make_environment.py $* .venv-$* || { echo "FAILED: the installation into .venv-$*"; exit 1; }
	@touch $@
