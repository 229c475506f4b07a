"""Every command has a manual page, made of its module's docstring and installed with it."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

PAGES = Path(sys.prefix) / "share/man"
COMMANDS = sorted(entry.name for entry in importlib.metadata.distribution("paperpath").entry_points)


@pytest.mark.parametrize("command", COMMANDS)
def test_page_has_a_name_a_synopsis_and_the_exit_codes(command: str) -> None:
    (page,) = PAGES.glob(f"man?/{command}.?")
    text = page.read_text()
    assert re.search(rf"^\.TH {re.escape(command)} \d ", text)
    assert [line for line in text.splitlines() if line.startswith(".SH ")][:2] == [".SH NAME", ".SH SYNOPSIS"]
    assert ".SH EXIT" in text
    assert not re.search(r"^[.'](?!TH|SH|nf|fi)", text, re.MULTILINE), (
        "text that roff would take for a request"
    )
