"""splogger makes the same entries however its input is cut."""

from __future__ import annotations

import syslog

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import run

from qmail.splogger import LONGEST, Pieces, priority

chunks = st.lists(st.one_of(st.sampled_from([b"\n", b"x" * 700, b"y" * LONGEST, b"\xff"]), st.binary()))


def pieces(chunks: list[bytes]) -> list[tuple[str, bool]]:
    cutter = Pieces()
    return [piece for chunk in chunks for piece in cutter.feed(chunk)]


@given(chunks)
def test_cutting_the_input_changes_nothing(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert pieces(chunks) == pieces([whole]) == pieces([bytes([byte]) for byte in whole])


@given(chunks)
def test_pieces_make_up_the_lines(chunks: list[bytes]) -> None:
    lines = b"".join([*chunks, b"\n"]).split(b"\n")[:-1]
    found: list[str] = []
    for piece, first in pieces([*chunks, b"\n"]):
        assert 0 < len(piece) <= LONGEST
        assert piece.isascii()
        assert piece.isprintable()
        if first:
            found.append(piece)
        else:
            found[-1] += piece
    assert [len(text) for text in found] == [len(line) for line in lines if line]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("alert: oh no", syslog.LOG_ALERT),
        ("warning: x", syslog.LOG_WARNING),
        ("status: alert:", syslog.LOG_INFO),
        ("alert", syslog.LOG_INFO),
    ],
)
def test_the_first_word_is_the_priority(line: str, expected: int) -> None:
    assert priority(line) == expected


def test_it_ends_with_its_input_whether_there_is_a_syslog_or_not() -> None:
    done = run("splogger", "qmail", "3", stdin=b"alert: x\n\nno end")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
