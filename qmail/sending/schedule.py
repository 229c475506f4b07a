"""When to try again: a message t seconds old is tried next when it is (sqrt(t) + skip) squared seconds old.

So the waits grow with the age of the message, each message has its own
schedule, and no table of intervals is needed.  Times are whole seconds since
1970.  Does no I/O.
"""

from __future__ import annotations

import math

SKIP = (10, 20)
"""How far the square root advances per try, by channel: local, remote."""
LARGEST_ROOT = 65535  # as the original's 16 bits; of an age of 136 years


def next_try(birth: int, now: int, channel: int) -> int:
    """When to try a message again on `channel` that came at `birth` and was just tried."""
    age = max(now - birth, 0)
    return birth + int(min(math.isqrt(age), LARGEST_ROOT) + SKIP[channel]) ** 2
