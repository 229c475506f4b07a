"""How many connections each address has, and made of late.  Does no I/O."""

from __future__ import annotations

from ucspi import addresses

PERIOD = 60.0  # seconds that "recent" is about
MOST_REMEMBERED = 100_000  # addresses a period; more make it end early
SITE6 = 8  # bytes; an IPv6 client owns a /64, so all of it counts as one address


class Visitors:
    """Counts by address.

    `recent` is the usual estimate: the count of this period, and a share of that of the one before.
    """

    def __init__(self) -> None:
        self._present: dict[bytes, int] = {}
        self._now: dict[bytes, int] = {}
        self._before: dict[bytes, int] = {}
        self._began = 0.0  # time.monotonic()

    def arrive(self, address: bytes, now: float) -> tuple[int, int]:
        """Count one more; return how many there are, and were within a minute, this one included."""
        self._turn(now)
        who = site(address)
        present = self._present[who] = self._present.get(who, 0) + 1
        count = self._now[who] = self._now.get(who, 0) + 1
        share = max(0.0, 1 - (now - self._began) / PERIOD)
        return present, count + int(share * self._before.get(who, 0))

    def leave(self, address: bytes) -> None:
        who = site(address)
        left = self._present[who] - 1
        if left:
            self._present[who] = left
        else:
            del self._present[who]

    def forget(self) -> None:
        """Let bygones be bygones: nobody has made a connection of late."""
        self._now, self._before = {}, {}

    def _turn(self, now: float) -> None:
        age = now - self._began
        if age >= PERIOD or len(self._now) >= MOST_REMEMBERED:
            self._before = self._now if age < 2 * PERIOD else {}
            self._now = {}
            self._began = self._began + PERIOD if PERIOD <= age < 2 * PERIOD else now


def site(address: bytes) -> bytes:
    """What of `address` counts as one client."""
    return address if len(address) == addresses.LENGTH4 else address[:SITE6]
