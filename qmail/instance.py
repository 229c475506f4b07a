"""A private instance: a mail system of one user in one directory, and what qmail-install made of it.

The ledger HOME/.instance marks the directory as an instance, and remembers
the options it was made with and the digest of every file as it was written.
So a later run can tell its own files from those that the owner has changed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from qmail.home import LEDGER
from supervise import durable

HEADING = "# Kept by qmail-install: the options it was given, and its files as it wrote them.\n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(slots=True)
class Instance:
    """The ledger of the instance in `home`."""

    home: Path
    options: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # name below home: digest as written
    kept: list[str] = field(default_factory=list)  # what the owner's hand was seen on, and why it stays

    @classmethod
    def load(cls, home: Path) -> Instance:
        """Read the ledger; an empty one if there is none.  A line that makes no sense is left out."""
        instance = cls(home)
        try:
            lines = (home / LEDGER).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return instance
        for line in lines:
            kind, *words = line.split() or [""]
            if kind == "option" and len(words) == 2:
                instance.options[words[0]] = words[1]
            elif kind == "file" and len(words) == 2:
                instance.written[words[1]] = words[0]
        return instance

    def put(self, name: str, content: bytes, mode: int) -> None:
        """Write the file `name`, unless the owner has changed or removed it."""
        path = self.home / name
        before = self.written.get(name)
        if path.exists():
            present = path.read_bytes()
            if present != content and digest(present) != before:
                self.kept.append(f"{path}: changed by you")
                return
        elif before:
            self.kept.append(f"{path}: removed by you")
            return
        durable.replace(str(path), content, f"{path}.new", mode)
        os.chmod(path, mode)
        self.written[name] = digest(content)

    def save(self) -> None:
        """Write the ledger."""
        options = [f"option {name} {value}\n" for name, value in self.options.items()]
        files = [f"file {value} {name}\n" for name, value in self.written.items()]
        path = f"{self.home}/{LEDGER}"
        durable.replace(path, "".join([HEADING, *options, *files]).encode(), f"{path}.new")
