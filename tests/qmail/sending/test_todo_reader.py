"""An envelope in todo/ means the same however it is read, and any bytes mean something or other."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from qmail.sending.envelope import Head
from qmail.sending.log import Log
from qmail.sending.rewriting import LOCAL, REMOTE, Rewriting
from qmail.sending.todo_reader import TodoReader

REWRITING = Rewriting(frozenset([b"here.org"]))
records = st.sampled_from(
    [b"u7\0", b"p12\0", b"Fs@x\0", b"Ta@here.org\0", b"Tb@far.org\0", b"\0", b"Xy\0", b"T"]
)
envelopes = st.one_of(st.lists(records).map(b"".join), st.binary())


def read(pieces: list[bytes]) -> tuple[Head, list[tuple[int, bytes]], str, bytes]:
    """What a reader has and what the log says after `pieces`."""
    ours, theirs = os.pipe()
    try:
        log = Log(theirs)
        reader = TodoReader(5, 100, log, REWRITING)
        for piece in pieces:
            reader.feed(piece)
        log.line(b"end")
        log.flush()
        logged = os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)
    return reader.head, reader.recipients, reader.complaint, logged


@given(envelopes)
def test_cutting_an_envelope_changes_nothing(envelope: bytes) -> None:
    assert read([envelope[at : at + 1] for at in range(len(envelope))]) == read([envelope])


def test_what_an_envelope_says() -> None:
    head, recipients, complaint, logged = read([b"u7\0p12\0Fs%@x\0Ta@here.org\0Tb@far.org\0Tcut"])
    assert (recipients, complaint) == ([(LOCAL, b"a@here.org"), (REMOTE, b"b@far.org")], "")
    assert logged == b"info msg 5: bytes 100 from <s_@x> qp 12 uid 7\nend\n"
    assert head.sender == b"s%@x"


def test_what_follows_an_unknown_record_does_not_count() -> None:
    _, recipients, complaint, _ = read([b"Fs@x\0Xno\0Ta@here.org\0"])
    assert (recipients, complaint) == ([], "unknown record type in")
