"""A quoted box is read back as the same box; a plain one is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.quoting import needs_quotes, quote, quote2


@pytest.mark.parametrize("box", [b"joe", b"a.b-c+d", b"{x|y}~!#$%&'*/=?^_`"])
def test_plain_boxes_stay(box: bytes) -> None:
    assert quote(box) == box


@pytest.mark.parametrize(
    ("box", "quoted"),
    [
        (b"", b'""'),
        (b"jane doe", b'"jane doe"'),
        (b".a", b'".a"'),
        (b"a.", b'"a."'),
        (b"a..b", b'"a..b"'),
        (b'a"b', b'"a\\"b"'),
        (b"a\\b", b'"a\\\\b"'),
        (b"a\r\nb", b'"a\\\r\\\nb"'),
        (b"\xe9", b'"\xe9"'),
        (b"<x>", b'"<x>"'),
    ],
)
def test_other_boxes_are_quoted(box: bytes, quoted: bytes) -> None:
    assert quote(box) == quoted


@pytest.mark.parametrize(
    ("address", "quoted"),
    [
        (b"", b""),
        (b"joe", b"joe"),
        (b"jane doe@x.y", b'"jane doe"@x.y'),
        (b"a@b@c", b'"a@b"@c'),
        (b"@h", b'""@h'),
        (b"a@", b"a@"),
    ],
)
def test_of_an_address_what_stands_before_the_last_at_is_quoted(address: bytes, quoted: bytes) -> None:
    assert quote2(address) == quoted


@given(st.binary())
def test_unquoting_gives_the_box(box: bytes) -> None:
    quoted = quote(box)
    if not needs_quotes(box):
        assert quoted == box
        return
    inner = iter(quoted[1:-1])
    assert bytes(next(inner) if c == ord("\\") else c for c in inner) == box
