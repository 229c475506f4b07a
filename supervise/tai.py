"""TAI64N: a moment as 12 bytes, or as the label `@` and 24 hexadecimal digits.

Moments are nanoseconds since 1970-01-01 00:00:00 UTC, as time.time_ns() gives
them.  Like the originals, this takes TAI to be ten seconds ahead of UTC for ever.
"""

from __future__ import annotations

import time
from operator import add

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EPOCH = (1 << 62) + 10
"""What a label counts for the second 0 of Unix time."""
SECOND = 1_000_000_000  # nanoseconds
LABEL_SIZE = 25
PACKED_SIZE = 12
HEX = b"0123456789abcdef"
LOW = 1 << 12  # labels that differ in their last three digits only
ENDINGS = tuple(b"%03x " % low for low in range(LOW))
STEP_BACK = 1_000_000
"""Nanoseconds that the clock may be behind the last label before Labels follows it back."""


def label(moment: int) -> bytes:
    """The label of `moment`: 25 bytes, which sort as the moments do."""
    seconds, nanoseconds = divmod(moment, SECOND)
    return b"@%016x%08x" % (seconds + EPOCH, nanoseconds)


def now() -> bytes:
    """The label of the present."""
    return label(time.time_ns())


def parse(text: bytes) -> int | None:
    """The moment that the label at the start of `text` means; None if there is none."""
    digits = text[1:LABEL_SIZE]
    if text[:1] != b"@" or len(digits) != LABEL_SIZE - 1 or digits.strip(HEX):
        return None
    return unpack(bytes.fromhex(digits.decode()))


def pack(moment: int) -> bytes:
    """`moment` in 12 bytes: seconds in 8, nanoseconds in 4, the highest first."""
    seconds, nanoseconds = divmod(moment, SECOND)
    return (seconds + EPOCH).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")


def unpack(packed: bytes) -> int:
    """The moment that the first 12 bytes of `packed` mean."""
    seconds = int.from_bytes(packed[:8], "big") - EPOCH
    return seconds * SECOND + int.from_bytes(packed[8:PACKED_SIZE], "big")


class Labels:
    """Labels lines as they come.

    All lines of one read came at one moment; each next one is labelled a
    nanosecond later, so that labels stay distinct and sort as the lines came.
    """

    def __init__(self) -> None:
        self._next = 0

    def before(self, lines: Sequence[bytes], now: int) -> bytes:
        """`lines`, each with its label and a space before it and a newline after it."""
        moment = self._next if 0 < self._next - now < STEP_BACK else now
        out: list[bytes] = []
        done = 0
        while done < len(lines):
            low = moment % SECOND % LOW
            count = min(len(lines) - done, LOW - low, SECOND - moment % SECOND)
            first = label(moment)[:-3]
            labelled = map(add, ENDINGS[low : low + count], lines[done : done + count])
            out += first, (b"\n" + first).join(labelled), b"\n"
            done += count
            moment += count
        self._next = moment
        return b"".join(out)
