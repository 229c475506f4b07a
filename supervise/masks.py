"""Masks for what came from outside and is to be shown: nothing in it may forge a line or move a cursor."""

from __future__ import annotations


def printable(mask: bytes, besides: bytes = b"") -> bytes:
    """A table for bytes.translate: all but printable ASCII, and the bytes `besides`, become `mask`."""
    return bytes(byte if 32 <= byte <= 126 and byte not in besides else ord(mask) for byte in range(256))
