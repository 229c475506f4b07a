"""Dates come out as in the originals' examples, whatever TZ says, and agree with the standard library."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail import dates

WHEN = 812090813  # the example in the original's newfield.c


def test_each_form_of_one_moment() -> None:
    assert dates.rfc822(WHEN) == b"26 Sep 1995 04:46:53 -0000"
    assert dates.mbox(WHEN) == b"Tue Sep 26 04:46:53 1995"
    assert dates.digits(WHEN) == b"19950926044653"


def test_the_day_has_no_zero_in_a_header_but_has_one_in_an_mbox() -> None:
    assert dates.rfc822(86400 * 3) == b"4 Jan 1970 00:00:00 -0000"
    assert dates.mbox(86400 * 3) == b"Sun Jan 04 00:00:00 1970"


@pytest.fixture(name="zone")
def _zone(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    return set_zone


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("UTC0", b"26 Sep 1995 04:46:53 +0000"),
        ("XXX-2", b"26 Sep 1995 06:46:53 +0200"),
        ("XXX3:30", b"26 Sep 1995 01:16:53 -0330"),
        ("XXX-5:45", b"26 Sep 1995 10:31:53 +0545"),
    ],
)
def test_local_dates_show_the_zone(zone: Callable[[str], None], name: str, date: bytes) -> None:
    zone(name)
    try:
        assert dates.rfc822(WHEN, local=True) == date
        assert dates.rfc822(WHEN) == b"26 Sep 1995 04:46:53 -0000"
    finally:
        zone("UTC0")


@given(st.integers(0, 250_000_000_000))
def test_a_mail_reader_finds_the_same_moment(when: int) -> None:
    read = email.utils.parsedate_to_datetime(dates.rfc822(when).decode())
    assert read.replace(tzinfo=UTC).timestamp() == when
