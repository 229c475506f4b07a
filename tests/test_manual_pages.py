"""Every command has a manual page with the sections that people look for, and its docstring is that page."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "man/generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def manual(name: str) -> str:
    module = importlib.import_module(COMMANDS[name].split(":")[0])
    return module.__doc__ or ""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_is_complete(generate: ModuleType, name: str) -> None:
    section, roff = generate.page(manual(name).strip())
    assert section in "18"
    assert f'.TH {name} {section} ""' in roff
    headings = re.findall(r"^\.SH (.*)$", roff, re.MULTILINE)
    assert headings[:2] == ["NAME", "SYNOPSIS"]
    assert "EXIT" in headings
    assert len(headings) == len(set(headings))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_is_installed(generate: ModuleType, name: str) -> None:
    section, roff = generate.page(manual(name).strip())
    assert (Path(sys.prefix) / f"share/man/man{section}/{name}.{section}").read_text() == roff
    assert not re.search(r"^[.'](?!TH|SH|nf|fi)", roff, re.MULTILINE), "text that roff would obey"


def test_the_text_of_a_page_is_shown_as_it_is(generate: ModuleType) -> None:
    _, roff = generate.page(
        "x(1): does.\n\nSYNOPSIS   x -a \\\n           y\n"
        "FILES\n.qmail\n'quoted'\n  in\nQMAILHOME  z\nEXIT  0\n"
    )
    shown = roff.split(".SH SYNOPSIS\n.nf\n")[1].splitlines()
    assert shown == [
        r"x \-a \e", "y", ".fi", ".SH FILES", ".nf", r"\&.qmail", r"\&'quoted'", "  in", "QMAILHOME  z",
        ".fi", ".SH EXIT", ".nf", "0", ".fi",
    ]  # fmt: skip
