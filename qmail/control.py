"""Control files, read as the originals read them: bytes, trailing blanks cut, `#` only in lists.

A file that is missing is never an error here; one that cannot be read is an
OSError, and the caller names it.
"""

from __future__ import annotations

import os

from qmail import home
from supervise.numbers import scan_ulong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BLANKS = b" \t\n"


class Controls:
    """The control files of one directory.  `me` is read at once, the others when asked for."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.me = self._first_line("me")

    @classmethod
    def of(cls, mail_home: str) -> Controls:
        """Those of a mail home, or of $QMAIL_CONTROLDIR."""
        return cls(home.control_directory(mail_home))

    def line(self, name: str, default: bytes | None = None, *, me: bool = False) -> bytes | None:
        """The first line of a file; for a missing one `me` if that is asked for and known, else `default`."""
        found = self._first_line(name)
        if found is None and me:
            found = self.me
        return default if found is None else found

    def number(self, name: str, default: int) -> int:
        """The number that the first line begins with; `default` if the file is missing or has none."""
        line = self._first_line(name)
        if line is None:
            return default
        number, digits = scan_ulong(line)
        return number if digits else default

    def lines(self, name: str, *, me: bool = False) -> list[bytes] | None:
        """The lines of a list, without comments and empty ones; None if the file is missing.

        With `me`, a missing file stands for the one line of control/me, if there is that.
        """
        content = self.content(name)
        if content is None:
            return [self.me] if me and self.me is not None else None
        return significant(content)

    def content(self, name: str) -> bytes | None:
        """A whole file; None if it is missing."""
        return read_file(f"{self.directory}/{name}")

    def _first_line(self, name: str) -> bytes | None:
        content = self.content(name)
        return None if content is None else content.partition(b"\n")[0].rstrip(BLANKS)


def read_file(path: str) -> bytes | None:
    """A file's content; None if it is missing.  OSError: it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        content = os.read(fd, 16384)
        if len(content) < 16384:  # at most a short read of a regular file: its end
            return content
        chunks = [content]
        while content:
            content = os.read(fd, 1 << 20)
            chunks.append(content)
        return b"".join(chunks)
    finally:
        os.close(fd)


def significant(content: bytes) -> list[bytes]:
    """The entries of a list file.  As in the originals, a NUL ends an entry like a line end."""
    entries: list[bytes] = []
    for raw in content.split(b"\n"):
        line = raw.rstrip(BLANKS)
        if line and line[0] not in b"#\0":
            entries += line.split(b"\0") if b"\0" in line else (line,)
    return entries


def lookup_table(entries: Iterable[bytes]) -> dict[bytes, bytes]:
    """`key:value` lines as a table with lower-case keys; of several the last; not those without a colon."""
    table: dict[bytes, bytes] = {}
    for entry in entries:
        key, colon, value = entry.partition(b":")
        if colon:
            table[key.lower()] = value
    return table


def lookup_set(entries: Iterable[bytes]) -> frozenset[bytes]:
    """Lines as a set of lower-case keys."""
    return frozenset(entry.lower() for entry in entries)
