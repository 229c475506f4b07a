"""Input in pieces, for tests that how it is cut changes nothing."""

from __future__ import annotations


def cut(wire: bytes, steps: list[int]) -> list[bytes]:
    """`wire` in pieces whose lengths are `steps`, again and again."""
    pieces: list[bytes] = []
    at = 0
    while at < len(wire):
        pieces.append(wire[at : at + steps[len(pieces) % len(steps)]])
        at += len(pieces[-1])
    return pieces
