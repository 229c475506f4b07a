"""Small pieces made large, so that there is one write instead of many."""

from __future__ import annotations

SIZE = 64 * 1024  # bytes


class Gathering:
    """Pieces that wait for others."""

    __slots__ = ("_length", "_pieces")

    def __init__(self, first: bytes = b"") -> None:
        self._pieces = [first]
        self._length = len(first)

    def add(self, piece: bytes) -> bytes:
        """All that there is, once it is large enough; b"" before."""
        self._pieces.append(piece)
        self._length += len(piece)
        return self.take() if self._length >= SIZE else b""

    def take(self) -> bytes:
        """All that there is."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        return data
