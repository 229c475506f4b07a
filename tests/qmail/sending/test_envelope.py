"""Envelope files are cut into records the same way however they are read, and no bytes are an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.sending.envelope import LONGEST, Head, Records, TooLong, number, read_head, sender_of


@given(st.lists(st.binary()), st.binary())
def test_cutting_a_file_changes_nothing(pieces: list[bytes], rest: bytes) -> None:
    whole = b"".join(pieces) + rest
    cutter = Records()
    records = [record for piece in [*pieces, rest] for record in cutter.feed(piece)]
    assert records == Records().feed(whole)
    assert b"".join(record + b"\0" for record in records) == whole[: whole.rfind(b"\0") + 1]


@pytest.mark.parametrize(
    ("text", "expected"), [(b"12", 12), (b"12x", 12), (b"", 0), (b"x", 0), (b"-1", 0), (b"9" * 30, 0)]
)
def test_a_number_is_the_digits_at_the_start(text: bytes, expected: int) -> None:
    assert number(text) == expected


@given(st.binary())
def test_only_u_p_and_f_are_understood(record: bytes) -> None:
    head = Head()
    assert read_head(head, record) == (record[:1] in (b"u", b"p", b"F") and record != b"")
    if record.startswith(b"F"):
        assert head.sender == record[1:]


@pytest.mark.parametrize(
    ("info", "expected"),
    [(b"Fa@b\0", b"a@b"), (b"F\0", b""), (b"Fa\0b\0", b"a"), (b"", None), (b"Fa", None), (b"Ta\0", None)],
)
def test_the_sender_in_info(info: bytes, expected: bytes | None) -> None:
    assert sender_of(info) == expected


def test_a_record_without_end_is_given_up() -> None:
    cutter = Records()
    assert cutter.feed(b"T" * LONGEST) == []
    with pytest.raises(TooLong):
        cutter.feed(b"T")
