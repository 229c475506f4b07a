"""dot-qmail(5): which file gives the instructions for an address, and what its lines mean.  Does no I/O."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MBOX, MAILDIR, PROGRAM, FORWARD, LIST = "mbox", "maildir", "program", "forward", "list"
"""The kinds of lines; LIST is `+list`: from here on forwards only."""


PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%_+:,./- \t"
"""The bytes that mean nothing to a shell but themselves, or the space between words."""


class BlankFirstLine(ValueError):
    """The instructions begin with a blank line, which may be a file half written."""


def file_names(dash: bytes, ext: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """The files to look for, in order, each with what DEFAULT is then (None: left as it is).

    `-`, `a-b` gives `.qmail-a-b`, `.qmail-a-default`, `.qmail-default`.  In the
    name upper case is lowered and a dot is a colon, so that no extension can
    climb out of the directory by itself.
    """
    safe = ext.lower().replace(b".", b":")
    stem = b".qmail" + dash
    yield stem + safe, ext[-7:] if safe.endswith(b"default") else None
    for end in range(len(safe), -1, -1):
        if not end or safe[end - 1 : end] == b"-":
            yield stem + safe[:end] + b"default", ext[end:]


def owner_names(dash: bytes, ext: bytes) -> tuple[bytes, bytes]:
    """The files whose existence makes the list's owner the sender of forwards, the second one with VERP."""
    stem = b".qmail" + dash + ext.lower().replace(b".", b":")
    return stem + b"-owner", stem + b"-owner-default"


def parse(instructions: bytes) -> Iterator[tuple[str, bytes]]:
    """The (kind, text) of each line that is an instruction; text as `qmail-local -n` shows it.

    Blanks at line ends do not count.  A NUL ends what the line says, as it
    does for the system calls that it goes to, but is no blank.  Raises
    BlankFirstLine when it comes to it.
    """
    lines = instructions.removesuffix(b"\n").split(b"\n")
    for number, whole in enumerate(lines):
        line = whole.rstrip(b" \t")
        first = line[:1]
        if first in (b"", b"\0"):
            if not number:
                raise BlankFirstLine
        elif first in (b".", b"/"):
            yield MAILDIR if line.endswith(b"/") else MBOX, line
        elif first == b"|":
            yield PROGRAM, line[1:]
        elif first == b"+":
            if line.partition(b"\0")[0] == b"+list":
                yield LIST, b""
        elif first != b"#":
            yield FORWARD, line.removeprefix(b"&")


def plain_words(command: bytes) -> list[bytes]:
    """The words of a command that a shell would do nothing to but run them; none if it might."""
    return [] if command.translate(None, PLAIN) else command.split()
