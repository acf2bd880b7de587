# Two commands do everything on a machine with Python 3.11 or newer: make quickstart, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

.PHONY: quickstart test check docs clean

quickstart: $(VENV)/.quickstart
	$(BIN)/python -m uap_lightning.train experiment=quickstart

test: check
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# One environment serves all; an extra is installed when pyproject.toml is newer than its stamp.
$(VENV)/.%: pyproject.toml | $(BIN)/python
ifdef UV
	$(UV) pip install --quiet --python $(BIN)/python --editable ".[$*]"
else
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
endif
	touch $@

$(BIN)/python:
ifdef UV
	$(UV) venv --quiet --python $(PYTHON) $(VENV)
else
	$(PYTHON) -m venv $(VENV)
endif

clean:
	rm -rf $(VENV) build outputs banks cache
