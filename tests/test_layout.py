"""The three floors stand on those below them, and every command is a module with a `main`."""

from __future__ import annotations

import ast
import importlib.metadata
from pathlib import Path

import pytest
from programs import BIN

ROOT = Path(__file__).parent.parent
FLOORS = ("supervise", "ucspi", "qmail")  # from the ground up
MODULES = [file.relative_to(ROOT) for floor in FLOORS for file in sorted((ROOT / floor).rglob("*.py"))]
COMMANDS = sorted(importlib.metadata.distribution("paperpath").entry_points, key=lambda entry: entry.name)


def imported_packages(file: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            packages.add((node.module or "").split(".")[0])
    return packages


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_nothing_from_a_higher_floor(module: Path) -> None:
    higher = FLOORS[FLOORS.index(module.parts[0]) + 1 :]
    assert not imported_packages(ROOT / module) & set(higher)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_says_what_it_is_for(module: Path) -> None:
    assert ast.get_docstring(ast.parse((ROOT / module).read_text()))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda entry: str(entry.name))
def test_command_is_installed_and_its_manual_has_the_headings(command: importlib.metadata.EntryPoint) -> None:
    assert (BIN / command.name).exists()
    manual = ast.get_docstring(ast.parse((ROOT / f"{command.module.replace('.', '/')}.py").read_text())) or ""
    assert manual.startswith(f"{command.name}("), "the manual's first line is `name(section): what it does`"
    headings = {line.split()[0] for line in manual.splitlines()[1:] if line[:1].isalpha()}
    assert headings >= {"SYNOPSIS", "EXIT"}


def test_installed_modules_are_compiled() -> None:
    """Even where PYTHONDONTWRITEBYTECODE is set: a cold start must not compile."""
    package = Path(str(importlib.metadata.distribution("paperpath").locate_file("supervise")))
    sources = [file.stem for file in package.glob("*.py")]
    compiled = {file.name.split(".")[0] for file in (package / "__pycache__").glob("*.pyc")}
    assert sources
    assert set(sources) <= compiled
