"""The SMTP client: replies cut anywhere are the same, and nothing it sends can be read as two messages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.remote_delivery.smtp_client import (
    Body,
    Encoder,
    PartialLine,
    Reply,
    ReplyReader,
    ReplyTooLong,
    Session,
)

chunks_of_wire = st.lists(
    st.lists(st.sampled_from([b"2", b"5", b"0", b"-", b" ", b"\r", b"\n", b"x"])).map(b"".join)
)
chunks_of_mail = st.lists(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"a"])).map(b"".join))


def replies(chunks: list[bytes]) -> list[Reply]:
    reader = ReplyReader()
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        while reply := reader.next():
            found.append(reply)
    return found


def wire_of(chunks: list[bytes]) -> bytes | None:
    encoder = Encoder()
    try:
        return b"".join([*map(encoder.feed, chunks), encoder.end()])
    except PartialLine:
        return None


@given(chunks_of_wire)
def test_replies_do_not_depend_on_how_the_wire_is_cut(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert replies(chunks) == replies([whole]) == replies([bytes([byte]) for byte in whole])


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"250 ok\r\n", [Reply(250, b"250 ok\n")]),
        (b"250-a\r\n250-b\r\n250 c\r\n", [Reply(250, b"250-a\n250-b\n250 c\n")]),
        (b"250-a\r\n550 b\r\n", [Reply(250, b"250-a\n550 b\n")]),
        (b"250\r\n", [Reply(250, b"250\n")]),
        (b"354 go\n250 ok\n", [Reply(354, b"354 go\n"), Reply(250, b"250 ok\n")]),
        (b"250 no end", []),
        (b"hey there\r\n", [Reply((56 * 10 + 53) * 10 + 73, b"hey there\n")]),
    ],
)
def test_reply_is_read_as_the_original_does(wire: bytes, expected: list[Reply]) -> None:
    assert replies([wire]) == expected


def test_text_of_a_long_reply_is_cut_and_an_endless_one_given_up() -> None:
    reader = ReplyReader()
    reader.feed(b"250-" + b"x" * 9000 + b"\r\n250 y\r\n")
    reply = reader.next()
    assert reply
    assert len(reply.text) == 5000
    endless = b"250-" + b"x" * 9000 + b"\r\n"
    with pytest.raises(ReplyTooLong):
        reader.feed(endless * 300)


@given(chunks_of_mail)
def test_encoding_does_not_depend_on_how_the_message_is_cut(chunks: list[bytes]) -> None:
    assert wire_of(chunks) == wire_of([b"".join(chunks)])


@given(chunks_of_mail)
def test_any_server_sees_one_message_and_its_end_only_at_the_end(chunks: list[bytes]) -> None:
    wire = wire_of(chunks)
    if wire is None:
        assert not b"".join(chunks).endswith((b"\n", b"\r"))
        return
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire), "a bare CR or LF is a line end to some"
    lines = wire.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2]


@given(chunks_of_mail)
def test_receiver_that_undoes_the_dots_has_the_message_back(chunks: list[bytes]) -> None:
    wire = wire_of(chunks)
    if wire is not None:
        lines = [line.removeprefix(b".") + b"\n" for line in wire.split(b"\r\n")[:-2]]
        assert b"".join(lines) == b"".join(chunks).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def converse(codes: list[int], recipients: list[bytes]) -> tuple[list[bytes | Body], bytes]:
    """Drive a session with these replies; what it sent, and its report."""
    session = Session(b"1.2.3.4", b"me", b"s@x.y", recipients)
    steps = session.steps()
    sent = [next(steps)]
    try:
        for code in codes:
            sent.append(steps.send(Reply(code, b"%d text\n" % code)))
    except StopIteration:
        return sent, bytes(session.report)
    return sent, session.dropped()


def test_server_with_extensions_hears_no_helo() -> None:
    session = Session(b"1.2.3.4", b"me", b"s@x.y", [b"r@x.y"])
    steps = session.steps()
    next(steps)
    assert steps.send(Reply(220, b"220 hi\n")) == b"EHLO me\r\n"
    offered = Reply(250, b"250-mx\n250-size 1000\n250 8BITMIME\n")
    assert steps.send(offered) == b"MAIL FROM:<s@x.y>\r\n"
    assert session.extensions == {b"SIZE 1000", b"8BITMIME"}


def test_connection_that_dies_after_the_message_may_mean_a_duplicate() -> None:
    _, report = converse([220, 500, 250, 250, 250, 354], [b"r@x.y"])
    assert report == b"r\0ZConnected to 1.2.3.4 but connection died. (#4.4.2)\n\0"
    session = Session(b"1.2.3.4", b"me", b"s@x.y", [b"r@x.y"])
    session.critical = True
    assert b"Possible duplicate! " in session.dropped()


@given(st.lists(st.integers(0, 999), min_size=12, max_size=12), st.integers(1, 4))
def test_every_conversation_ends_in_a_report_that_rspawn_can_read(codes: list[int], count: int) -> None:
    _, report = converse(codes, [b"r%d@x.y" % number for number in range(count)])
    *pieces, rest = report.split(b"\0")
    assert rest == b""
    assert all(piece[:1] in (b"r", b"h", b"s") for piece in pieces[:-1])
    assert pieces[-1][:1] in (b"K", b"Z", b"D")
    assert len(pieces) - 1 in (0, *range(1, count + 1))
