"""TAI64N labels for many lines at once, as multilog and tai64n put them before what they read."""

from __future__ import annotations

from supervise.tai import SECOND, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LOW = 1 << 12  # labels that differ in their last three digits only
ENDINGS = tuple(b"%03x " % low for low in range(LOW))
STEP_BACK = 1_000_000
"""Nanoseconds that the clock may be behind the last label before Labels follows it back."""


class Labels:
    """Labels lines as they come.

    All lines of one read came at one moment; each next one is labelled a
    nanosecond later, so that labels stay distinct and sort as the lines came.
    """

    def __init__(self) -> None:
        self._next = 0

    def before(self, lines: Sequence[bytes], now: int, start: bytes = b"") -> bytes:
        """`start`, then `lines`, each with its label and a space before it and a newline after it."""
        moment = self._next if 0 < self._next - now < STEP_BACK else now
        out = [start]
        done = 0
        while done < len(lines):
            low = moment % SECOND % LOW
            count = min(len(lines) - done, LOW - low, SECOND - moment % SECOND)
            first = label(moment)[:-3]
            parts = [b"\n" + first] * (3 * count)
            parts[0::3] = ENDINGS[low : low + count]
            parts[1::3] = lines[done : done + count]
            parts[-1] = b"\n"
            out.append(first)
            out += parts
            done += count
            moment += count
        self._next = moment
        return b"".join(out)
