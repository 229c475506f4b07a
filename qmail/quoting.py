"""Quoting the box part of an address for RFC 821 and RFC 822 alike, and as little as possible."""

from __future__ import annotations

PLAIN = b"!#$%&'*+-./0123456789=?ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz{|}~"
"""The bytes that a box without quotes may hold."""


def needs_quotes(box: bytes) -> bool:
    """Is `box` no plain dot-separated words?"""
    return (
        not box
        or bool(box.translate(None, PLAIN))
        or box.startswith(b".")
        or box.endswith(b".")
        or b".." in box
    )


def quote(box: bytes) -> bytes:
    """`box` for use in a header or an SMTP command: `joe`, `"jane doe"`, `"a\\"b"`."""
    if not needs_quotes(box):
        return box
    for special in (b"\\", b"\r", b"\n", b'"'):
        box = box.replace(special, b"\\" + special)
    return b'"' + box + b'"'


def quote2(address: bytes) -> bytes:
    """`address` with what stands before its last @ quoted; empty stays empty."""
    if not address:
        return address
    box, at, host = address.rpartition(b"@")
    return quote(box) + at + host if at else quote(address)
