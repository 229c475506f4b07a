"""make man: write a manual page for every command from its module's docstring, into DIR/manN/."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TITLE = re.compile(r"(?P<name>\S+)\((?P<section>\d)\): (?P<what>.*)")
HEADINGS = "SYNOPSIS|DESCRIPTION|OPTIONS|EXIT|FILES|ENVIRONMENT|SIGNALS|EXTENSIONS"
HEADING = re.compile(rf"(?P<heading>{HEADINGS})(?: +(?P<text>.*))?$")


def page(manual: str) -> tuple[str, str]:
    """Return the section and the roff text of a page for `manual`, a program's docstring."""
    title, *lines = manual.splitlines()
    match = TITLE.match(title)
    if not match:
        raise ValueError(f"not `name(section): what it does`: {title!r}")
    name, section, what = match.group("name", "section", "what")
    roff = [f'.TH {name} {section} "" paperpath', ".SH NAME", f"{escaped(name)} \\- {escaped(what)}"]
    column = 0  # where the text of the section begins in the docstring; -1: not known yet
    for line in lines:
        heading = HEADING.match(line)
        indent = len(line) - len(line.lstrip())
        if heading:
            roff += [".fi", f".SH {heading['heading']}", ".nf"]
            column = heading.start("text") if heading["text"] else -1
            roff += [escaped(heading["text"])] if heading["text"] else []
            continue
        if column < 0 and line:
            column = indent
        roff.append(escaped(line[min(column, indent) :]) if column >= 0 else "")
    return section, "\n".join([*roff, ".fi", ""])


def escaped(text: str) -> str:
    """`text` as roff shows it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def write_pages(target: Path) -> list[Path]:
    """Write all pages below `target`; return their places, relative to it."""
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    places = []
    for name, entry in commands.items():
        module = ROOT / f"{entry.split(':')[0].replace('.', '/')}.py"
        section, roff = page(ast.get_docstring(ast.parse(module.read_text())) or "")
        place = Path(f"man{section}/{name}.{section}")
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        (target / place).write_text(roff)
        places.append(place)
    return places


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
