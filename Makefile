#: make run     a complete mail system in ./instance, no root needed (RUN_OPTIONS='--smtp-port 2626')
#: make test    prove it (TESTS=tests/supervise for a part)
#: make lint    ruff and mypy
#: make bench   measure it beside the originals (BENCH='smtp queue' for a part)
#: make man     manual pages, in build/man
#: make venv    only install the programs, in .venv/bin; the others do that first
#: make clean   remove what was built, but no instance
PYTHON ?= python3
VENV = .venv
SOURCES = $(shell find supervise ucspi qmail service-templates man -type f ! -name '*.pyc') pyproject.toml README.md

.PHONY: run test lint bench man venv clean help

venv: $(VENV)/built

# An interpreter that every user may run, since services give up root's rights and root's home is closed to
# them; and by its own name, because python3 in PATH may be a shim that is slow to start and unfit for #!.
define FIND_PYTHON
import ensurepip, os, pathlib, sys
program = pathlib.Path(sys.executable).resolve()
fit = os.getuid() or all(place.stat().st_mode & 1 for place in program.parents)
print(sys.executable if fit and sys.version_info >= (3, 11) else "")
endef
export FIND_PYTHON

$(VENV)/bin/python:
	@for python in $(PYTHON) /usr/bin/python3 /usr/local/bin/python3; do \
	    found=$$($$python -c "$$FIND_PYTHON" 2>/dev/null) && [ "$$found" ] && break; \
	done; \
	[ "$$found" ] || found=$$($(PYTHON) -c 'import sys; print(sys.executable)') || exit 1; \
	echo "Making $(VENV) with $$found; this takes half a minute, once"; $$found -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --upgrade pip
	@$(VENV)/bin/python -m pip uninstall -qq --yes setuptools

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@$(VENV)/bin/python -m pip install -qq hatchling
	@$(VENV)/bin/python -m pip install -qq --no-build-isolation '.[dev]'
	@touch $@

$(VENV)/built: $(VENV)/installed $(SOURCES)
	@$(VENV)/bin/python -m pip install -qq --no-deps --no-build-isolation --force-reinstall --compile .
	@touch $@

run: venv
	@$(VENV)/bin/python -P -m qmail.demonstration instance $(RUN_OPTIONS)

test: venv
	$(VENV)/bin/pytest -n 4 --dist worksteal $(TESTS)

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: venv
	PYTHONPATH=tests $(VENV)/bin/python -m bench $(BENCH)

man: venv
	$(VENV)/bin/python man/generate.py build/man

help:
	@sed -n 's/^#: //p' Makefile

clean:
	rm -rf $(VENV) build dist
