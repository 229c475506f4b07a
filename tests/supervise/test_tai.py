"""A label means one moment, sorts as it does, and is what C multilog and `date` say it is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervise import tai

moments = st.integers(min_value=-(10**18), max_value=10**20)


def test_the_epoch_is_ten_seconds_into_tai() -> None:
    assert tai.label(0) == b"@400000000000000a00000000"
    assert tai.label(1_700_000_000_123_456_789) == b"@400000006553f10a075bcd15"


@given(moments)
def test_a_label_is_read_back(moment: int) -> None:
    assert tai.parse(tai.label(moment)) == moment
    assert tai.parse(tai.label(moment) + b" line\n") == moment
    assert tai.unpack(tai.pack(moment)) == moment
    assert tai.label(moment)[1:] == tai.pack(moment).hex().encode()


@given(moments, moments)
def test_labels_sort_as_moments_do(one: int, other: int) -> None:
    assert (tai.label(one) < tai.label(other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [b"", b"@", b"@4000", b"@400000006553f10a075bcd1", b"400000006553f10a075bcd155",
     b"@400000006553F10A075BCD15", b"@40000000 553f10a075bcd15", b"@400000006553f10a075bcdg5"],
)  # fmt: skip
def test_what_is_no_label_means_nothing(text: bytes) -> None:
    assert tai.parse(text) is None


def test_now_is_between_before_and_after() -> None:
    before = time.time_ns()
    now = tai.parse(tai.now())
    assert now is not None
    assert before <= now <= time.time_ns()
