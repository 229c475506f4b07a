"""TAI64N: a moment as 12 bytes, or as the label `@` and 24 hexadecimal digits.

Moments are nanoseconds since 1970-01-01 00:00:00 UTC, as time.time_ns() gives
them.  Like the originals, this takes TAI to be ten seconds ahead of UTC for ever.
"""

from __future__ import annotations

import time

EPOCH = (1 << 62) + 10
"""What a label counts for the second 0 of Unix time."""
SECOND = 1_000_000_000  # nanoseconds
LABEL_SIZE = 25
PACKED_SIZE = 12
HEX = b"0123456789abcdef"


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
