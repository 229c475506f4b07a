"""splogger(8): make entries in syslog.

SYNOPSIS
    splogger [ tag [ facility ] ]

DESCRIPTION
    Each line of standard input becomes an entry: tag (splogger if not given),
    a timestamp in seconds, the line.  Lines that begin with `alert:` or
    `warning:` have that priority, others are information.  facility is a
    number, 2 (mail) if not given.  Bytes that are no printable ASCII become
    question marks, empty lines are left out; a long line is cut into pieces
    of at most 799 bytes, and a + after the timestamp marks the later ones.

    syslog is slow and loses entries; multilog is better.

EXIT
    0: end of input.

FILES
    /dev/log
"""

from __future__ import annotations

import os
import syslog
import time

from supervise import masks
from supervise.numbers import scan_ulong
from supervise.program import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONGEST = 799  # bytes of a piece
PRINTABLE = masks.printable(b"?")


@program("splogger", resident=True, helps=False)
def main(argv: Sequence[str]) -> int:
    tag = argv[0] if argv else "splogger"
    facility = scan_ulong(os.fsencode(argv[1]))[0] << 3 if argv[1:] else syslog.LOG_MAIL
    syslog.openlog(tag, 0, facility & 0x3F8)
    try:
        pieces = Pieces()
        while data := os.read(0, 65536):
            for piece, first in pieces.feed(data):
                pieces.stamp = record(piece, first, pieces.stamp)
    finally:
        syslog.closelog()
    return 0


class Pieces:
    """Cuts a stream into lines, and lines into pieces.  Does no I/O.

    As in the original, a last line that no newline ends is lost.

    `stamp`: priority and timestamp of the line that is going on, for its later pieces.
    """

    def __init__(self) -> None:
        self._partial = b""
        self._first = True
        self.stamp = (0, "")

    def feed(self, data: bytes) -> Iterator[tuple[str, bool]]:
        """The pieces that `data` completes, and whether each is its line's first."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            yield from self._cut(line)
            self._first = True
        keep = (len(self._partial) - 1) % LONGEST + 1 if self._partial else 0
        whole, self._partial = self._partial[: len(self._partial) - keep], self._partial[-keep:]
        yield from self._cut(whole)

    def _cut(self, line: bytes) -> Iterator[tuple[str, bool]]:
        for start in range(0, len(line), LONGEST):
            yield line[start : start + LONGEST].translate(PRINTABLE).decode("ascii"), self._first
            self._first = False


def record(piece: str, first: bool, stamp: tuple[int, str]) -> tuple[int, str]:
    """Make an entry; return the priority and timestamp of its line."""
    if first:
        seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
        stamp = (priority(piece), f"{seconds}.{microseconds:06}")
    syslog.syslog(stamp[0], f"{stamp[1]}{' ' if first else '+'}{piece}")
    return stamp


def priority(line: str) -> int:
    if line.startswith("warning:"):
        return syslog.LOG_WARNING
    return syslog.LOG_ALERT if line.startswith("alert:") else syslog.LOG_INFO
