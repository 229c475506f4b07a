"""Netstrings: what is encoded is read back in any chunking; anything else is refused, soon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.netstrings import BadNetstring, NetstringReader, NetstringTooLong, encode, encode_all, scan_length


def test_the_form() -> None:
    assert encode(b"hello world!") == b"12:hello world!,"
    assert encode(b"") == b"0:,"


@given(st.lists(st.binary(max_size=40)), st.integers(1, 7))
def test_any_chunking_gives_the_same_strings(strings: list[bytes], step: int) -> None:
    wire = encode_all(strings)
    reader = NetstringReader(40)
    read = [string for at in range(0, len(wire), step) for string in reader.feed(wire[at : at + step])]
    assert read == strings


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_parse_or_be_refused(wire: bytes) -> None:
    try:
        strings = NetstringReader(1000).feed(wire)
    except BadNetstring:
        return
    assert all(len(string) < len(wire) for string in strings)


@pytest.mark.parametrize("wire", [b"x", b"-1:", b"1 :", b"1:ab", b"1:a;"])
def test_what_is_no_netstring_is_refused(wire: bytes) -> None:
    with pytest.raises(BadNetstring):
        NetstringReader(10).feed(wire)


@pytest.mark.parametrize("wire", [b"99999999999:", b"11:", b"0" * 70])
def test_a_length_out_of_bounds_is_refused_before_the_data(wire: bytes) -> None:
    with pytest.raises(NetstringTooLong):
        NetstringReader(10).feed(wire)


def test_no_digits_are_a_length_of_0_as_in_the_originals() -> None:
    assert scan_length(b":") == (0, 1)
