"""Ident answers: whatever the other side says, in whatever pieces, there is a name or none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspi.ident import MAX_ANSWER, MAX_INFO, Answer


def name(wire: bytes, cut: int = 1 << 20) -> bytes | None:
    answer = Answer()
    for place in range(0, len(wire), cut):
        found = answer.feed(wire[place : place + cut])
        if found is not None:
            return found
    return None


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"40000 , 25 : USERID : UNIX : joe\r\n", b"joe"),
        (b"40000,25:USERID:OTHER:a b\tc:d\r\nmore", b"abc:d"),
        (b"40000 , 25 : ERROR : NO-USER\r\n", b""),
        (b"1,2:USERID:UNIX:" + b"x" * 1000, b"x" * MAX_INFO),
        (b"1,2:USERID:UNIX:joe", None),
        (b"", None),
    ],
)
def test_the_name_follows_the_third_colon(wire: bytes, expected: bytes | None) -> None:
    assert name(wire) == name(wire, 1) == expected


def test_an_answer_without_end_is_given_up() -> None:
    with pytest.raises(ValueError, match="no end"):
        name(b" " * (MAX_ANSWER + 100), 50)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_cutting_it_changes_nothing(wire: bytes, cut: int) -> None:
    with contextlib.suppress(ValueError):
        assert name(wire, cut) == name(wire)
