# make run: a complete mail system in ./instance, no root needed.  make test: prove it.
PYTHON = python3
VENV = .venv
SOURCES = $(shell find supervise ucspi qmail service-templates man -type f ! -name '*.pyc') pyproject.toml README.md

.PHONY: run test lint bench man venv clean

venv: $(VENV)/built

# sys.executable, because PATH's python3 may be a shell shim, slow to start and unfit for #!.
$(VENV)/bin/python:
	$$($(PYTHON) -c 'import sys; print(sys.executable)') -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip uninstall --quiet --yes setuptools

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet hatchling
	$(VENV)/bin/python -m pip install --quiet --no-build-isolation '.[dev]'
	touch $@

$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall --compile .
	touch $@

run: venv
	$(VENV)/bin/python -P -m qmail.demonstration instance $(RUN_OPTIONS)

test: venv
	$(VENV)/bin/pytest -n 4 --dist worksteal $(TESTS)

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: venv
	PYTHONPATH=tests $(VENV)/bin/python -m bench $(BENCH)

man: venv
	$(VENV)/bin/python man/generate.py man

clean:
	rm -rf $(VENV) build dist
