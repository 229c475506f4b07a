"""tai64n(8): put a TAI64N label and a space before each line.

SYNOPSIS   tai64n
EXIT       0: end of input.  111: it cannot read or write.

The label is that of the moment when the line's first byte came; the lines of
one read are labelled a nanosecond apart.  What has come is passed on at once,
the beginning of a line too.
"""

from __future__ import annotations

import os
import time

from supervise.durable import write_all
from supervise.labels import Labels
from supervise.program import TEMPORARY, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 32768  # bytes; half of what a pipe holds, so that the other half can come meanwhile


class Labeller:
    """Labels the lines of a stream.  Does no I/O."""

    def __init__(self) -> None:
        self._labels = Labels()
        self._in_a_line = False

    def feed(self, chunk: bytes, now: int) -> bytes:
        """`chunk`, not empty and read at the moment `now`, with the labels that belong into it."""
        *lines, rest = chunk.split(b"\n")
        start = b""
        if self._in_a_line:
            if not lines:
                return rest
            start = lines.pop(0) + b"\n"
        labelled = self._labels.before([*lines, rest] if rest else lines, now, start)
        self._in_a_line = bool(rest)
        return labelled[:-1] if rest else labelled


@program("tai64n", resident=True)
def main(_argv: Sequence[str]) -> int:
    labeller = Labeller()
    try:
        while chunk := os.read(0, CHUNK):
            write_all(1, labeller.feed(chunk, time.time_ns()))
    except OSError:
        return TEMPORARY
    return 0
