"""Bytes kept for later: in memory, and beyond a limit in a file without a name."""

from __future__ import annotations

import os

from supervise.durable import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1 << 20  # bytes in memory
BLOCK = 65536


class Spool:
    """What `put` took, in order.  OSError: the disk of $TMPDIR (or /tmp) is full or fails."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._memory = bytearray()
        self._file = -1

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def put(self, data: bytes) -> None:
        self._memory += data
        if len(self._memory) > self._limit:
            if self._file < 0:
                self._file = nameless_file()
            write_all(self._file, bytes(self._memory))
            self._memory.clear()

    def blocks(self) -> Iterator[bytes]:
        """All of it, from the beginning."""
        at = 0
        while self._file >= 0:
            block = os.pread(self._file, BLOCK, at)
            if not block:
                break
            yield block
            at += len(block)
        yield bytes(self._memory)


def nameless_file() -> int:
    """A descriptor of an empty file that vanishes when it is closed."""
    try:
        return os.open(os.environ.get("TMPDIR") or "/tmp", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.memfd_create("spool")
