"""tai64nlocal(8): turn the TAI64N label at the beginning of a line into local time.

SYNOPSIS      tai64nlocal
EXIT          0: end of input.  111: it cannot read or write.
ENVIRONMENT   TZ, the local time zone

`@` and the lower-case hexadecimal digits after it become `YYYY-MM-DD
HH:MM:SS.` and nanoseconds; lines that do not begin with `@` pass unchanged.
What has come is passed on at once.
"""

from __future__ import annotations

import os
import time

from supervise.durable import write_all
from supervise.program import TEMPORARY, program
from supervise.tai import EPOCH, HEX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 32768  # bytes; half of what a pipe holds, so that the other half can come meanwhile
DIGITS = 24
"""How many digits count, the last ones: 16 of seconds, 8 of nanoseconds."""
MOST_HELD = 4096
"""How many digits are kept while more of them come."""


class Localizer:
    """Turns the labels of a stream into local time.  Does no I/O, but asks the system for the time zone."""

    def __init__(self) -> None:
        self._held = b""  # the beginning of a label
        self._in_a_line = False
        self._seconds: bytes | None = None  # what was asked for last
        self._text = b""

    def feed(self, chunk: bytes) -> bytes:
        """What `chunk` becomes, but for a label at its end that is perhaps not complete."""
        start = b""
        if self._in_a_line:
            end = chunk.find(b"\n") + 1
            if not end:
                return chunk
            start, chunk = chunk[:end], chunk[end:]
        *lines, rest = (self._held + chunk).split(b"\n")
        self._held = b""
        if rest.startswith(b"@") and not rest[1:].strip(HEX):
            self._held, rest = rest if len(rest) < MOST_HELD else b"@" + rest[-DIGITS:], b""
        self._in_a_line = bool(rest)
        return start + b"\n".join(
            [self._localized(line) if line[:1] == b"@" else line for line in (*lines, rest)]
        )

    def _localized(self, line: bytes) -> bytes:
        """`line`, which begins with "@"; unchanged if no calendar knows the moment."""
        rest = line[1:].lstrip(HEX)
        digits = line[1 : len(line) - len(rest)][-DIGITS:]
        seconds, nanoseconds = digits[:-8], digits[-8:]
        if seconds != self._seconds:
            try:
                self._text = local_time(int(seconds or b"0", 16) - EPOCH)
            except (OverflowError, OSError, ValueError):
                return line
            self._seconds = seconds
        return b"%b.%09d%b" % (self._text, int(nanoseconds or b"0", 16), rest)


def local_time(seconds: int) -> bytes:
    """`YYYY-MM-DD HH:MM:SS` of a Unix time.  OverflowError, OSError, ValueError: no such moment."""
    moment = time.localtime(seconds)
    if moment.tm_year < 0:
        raise ValueError
    return b"%d-%02d-%02d %02d:%02d:%02d" % moment[:6]


@program("tai64nlocal", resident=True)
def main(_argv: Sequence[str]) -> int:
    localizer = Localizer()
    try:
        while chunk := os.read(0, CHUNK):
            write_all(1, localizer.feed(chunk))
    except OSError:
        return TEMPORARY
    return 0
