"""The digits at the start count, nothing else, and no text is too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervise.numbers import MOST, leading_number, scan_ulong


@pytest.mark.parametrize(
    ("text", "number", "digits"),
    [("", 0, 0), ("12x", 12, 2), ("x12", 0, 0), ("-1", 0, 0), ("+1", 0, 0), (" 1", 0, 0), ("007", 7, 3),
     ("1_000", 1, 1), ("\u0663", 0, 0), ("1\udcff", 1, 1), ("18446744073709551615", MOST, 20),
     ("18446744073709551616", MOST, 20), ("9" * 10_000, MOST, 10_000), ("0" * 10_000 + "5", 5, 10_001)],
)  # fmt: skip
def test_examples(text: str, number: int, digits: int) -> None:
    assert scan_ulong(text) == (number, digits)
    assert scan_ulong(text.encode("utf-8", "surrogateescape")) == (number, digits)


@given(st.integers(0, MOST), st.text().filter(lambda rest: not rest[:1].isdecimal()))
def test_what_follows_a_number_does_not_matter(number: int, rest: str) -> None:
    assert leading_number(f"{number}{rest}".encode()) == number
