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
    column = 0  # where the text of the section begins in the docstring
    for line in lines:
        heading = HEADING.match(line)
        if heading:
            roff += [".fi", f".SH {heading['heading']}", ".nf"]
            column = heading.start("text") if heading["text"] else 0
            line = heading["text"] or ""
        else:
            line = line[min(column, len(line) - len(line.lstrip())) :]
        roff.append(escaped(line))
    return section, "\n".join([*roff, ".fi", ""])


def escaped(text: str) -> str:
    """`text` as roff shows it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def main() -> int:
    target = Path(sys.argv[1])
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, entry in commands.items():
        module = ROOT / f"{entry.split(':')[0].replace('.', '/')}.py"
        section, roff = page(ast.get_docstring(ast.parse(module.read_text())) or "")
        directory = target / f"man{section}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.{section}").write_text(roff)
    return 0


if __name__ == "__main__":
    sys.exit(main())
