"""recordio(1): run a program and record what it reads and writes.

SYNOPSIS   recordio program [ arg ... ]
EXIT       that of program.  100: wrong usage.  111: it cannot be run.

What passes through the descriptors 0 and 1 of program is printed on 2, each
line after program's pid and < for input or > for output.  A piece that does
not end with a newline ends with a plus; a line that does, with a blank.  [EOF]
is the end of the data.  A child of program copies and prints.
"""

from __future__ import annotations

import os

from supervise.program import Usage, program
from ucspi import relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PIECE = 256  # bytes of data in one line at most
ATOMIC = 4096  # bytes that nobody's output can get between, in a pipe


@program("recordio")
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("recordio program [ arg ... ]")
    pid = os.getpid()
    relay.run("recordio", argv, Recorder(b"%d < " % pid), Recorder(b"%d > " % pid))


class Recorder:
    """Prints what passes in one direction, and changes nothing."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def feed(self, data: bytes) -> bytes:
        pending = b""
        for line in recorded(self._prefix, data):
            if len(pending) + len(line) > ATOMIC:
                _print(pending)
                pending = b""
            pending += line
        _print(pending)
        return data

    def end(self) -> None:
        _print(self._prefix + b"[EOF]\n")


def recorded(prefix: bytes, data: bytes) -> Iterator[bytes]:
    """The lines that record `data`, as if it had come in pieces of 256 bytes."""
    for place in range(0, len(data), PIECE):
        *lines, rest = data[place : place + PIECE].split(b"\n")
        for line in lines:
            yield prefix + line + b" \n"
        if rest:
            yield prefix + rest + b"+\n"


def _print(lines: bytes) -> None:
    """Print on descriptor 2; nobody listening is no error."""
    try:
        while lines:
            lines = lines[os.write(2, lines) :]
    except OSError:
        pass
