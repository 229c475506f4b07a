"""Numbers as the originals read them: the digits that a text begins with, none being 0."""

from __future__ import annotations

MOST = (1 << 64) - 1
"""No number is larger; the originals start again at 0 there."""
MOST_DIGITS = 20


def scan_ulong(text: str | bytes) -> tuple[int, int]:
    """The number that `text` begins with, at most MOST, and the count of its digits."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    count = len(raw) - len(raw.lstrip(b"0123456789"))
    digits = raw[:count].lstrip(b"0")
    if len(digits) > MOST_DIGITS:
        return MOST, count
    return min(int(digits or b"0"), MOST), count


def leading_number(text: str | bytes) -> int:
    """The number that `text` begins with, whatever follows it; 0 if there is none."""
    return scan_ulong(text)[0]
