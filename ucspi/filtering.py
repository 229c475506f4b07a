"""Copy one descriptor to another, changing what passes: the whole of addcr and delcr."""

from __future__ import annotations

import os

from supervise.durable import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 65_536  # bytes


def copy(
    source: int, target: int, change: Callable[[bytes], bytes], end: Callable[[], bytes] = bytes
) -> None:
    """Copy until the end of `source`, each piece at once.  OSError: what cannot be read or written."""
    while data := os.read(source, STEP):
        write_all(target, change(data))
    write_all(target, end())
