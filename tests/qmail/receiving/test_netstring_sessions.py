"""QMTP and QMQP sessions: the same messages and replies however the input is cut, and nothing breaks them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pieces import cut

from qmail.control import Controls
from qmail.netstrings import encode, encode_all
from qmail.receiving.incoming import Begin, Body, Close, End, NeedInput
from qmail.receiving.netstring_session import NetstringSession
from qmail.receiving.qmqp import QmqpSession
from qmail.receiving.qmtp import QmtpSession
from qmail.receiving.rcpthosts import RcptHosts

Outcome = tuple[bytes, list[tuple[bytes, bytes, bytes, bool]], int]
SUCCESS = encode(b"Kok 812345679 qp 53")
NOT_ALLOWED = encode(b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)")
UNUSABLE = encode(b"Dsorry, I can't handle that recipient (#5.1.3)")
BAD_ADDRESS = encode(b"Dsorry, I can't accept addresses like that (#5.1.3)")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> RcptHosts:
    control = tmp_path_factory.mktemp("control")
    (control / "rcpthosts").write_bytes(b"example.org\n")
    return RcptHosts(Controls(str(control)))


def converse(session: NetstringSession, pieces: list[bytes], opens: bool = True) -> Outcome:
    """Feed the pieces and the end of input; return replies, messages, exit code."""
    replies, messages, body = b"", [], b""
    waiting = [*pieces, b""]
    while True:
        event = session.next_event()
        while taken := session.take_replies():
            replies += taken
        match event:
            case NeedInput():
                session.receive(waiting.pop(0))
            case Begin():
                body = b""
                session.begun(opens)
            case Body(data):
                body += data
            case End(sender, recipients, refused):
                messages.append((b"" if refused else body, sender, bytes(recipients), refused))
                session.ended(b"Zqq read error (#4.3.0)" if refused else b"", 53, 812345679)
            case Close(code):
                return replies, messages, code


def qmtp(body: bytes, sender: bytes, *recipients: bytes) -> bytes:
    return encode(body) + encode(sender) + encode(encode_all(recipients))


def qmqp(body: bytes, sender: bytes, *recipients: bytes) -> bytes:
    return encode(encode(body) + encode(sender) + encode_all(recipients))


bodies = st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\0"])).map(b"".join)
boxes = st.sampled_from([b"", b"j@example.org", b"x@else.where", b"n\0l@example.org", b"y" * 1000, b"local"])
steps = st.lists(st.integers(1, 9), min_size=1)
mails = st.builds(lambda first, body, sender, to: qmtp(first + body, sender, *to),
                  st.sampled_from([b"\n", b"\r"]), bodies, boxes, st.lists(boxes, max_size=4))  # fmt: skip
qmqp_mails = st.builds(lambda body, sender, to: qmqp(body, sender, *to), bodies, boxes, st.lists(boxes))
junk = st.sampled_from([b"", b"1", b"x", b"0:,", b"3:", b"999999999999:", b"5:\nabcd;"])


@given(st.lists(mails, max_size=3), junk, steps, st.sampled_from([0, 4]))
def test_cutting_qmtp_changes_nothing(
    hosts: RcptHosts, parts: list[bytes], end: bytes, steps: list[int], databytes: int
) -> None:
    wire = b"".join([*parts, end])
    sessions = [QmtpSession(hosts, None, databytes) for _ in range(2)]
    assert converse(sessions[0], cut(wire, steps)) == converse(sessions[1], [wire] if wire else [])


@given(
    st.builds(lambda body, sender, to: qmqp(body, sender, *to), bodies, boxes, st.lists(boxes)), junk, steps
)
def test_cutting_qmqp_changes_nothing(wire: bytes, end: bytes, steps: list[int]) -> None:
    assert converse(QmqpSession(), cut(wire + end, steps)) == converse(QmqpSession(), [wire + end])


@given(st.lists(st.binary(min_size=1), max_size=9))
def test_no_bytes_break_them(hosts: RcptHosts, pieces: list[bytes]) -> None:
    for session in (QmtpSession(hosts, None, 10), QmqpSession()):
        assert converse(session, pieces)[2] in (0, 100, 111)


def test_qmtp_answers_for_each_recipient(hosts: RcptHosts) -> None:
    wire = qmtp(b"\nS: x\n\nb\n", b"a@b", b"j@example.org", b"x@else.where", b"n\0@example.org", b"y" * 1000)
    assert converse(QmtpSession(hosts, None, 0), [wire]) == (
        SUCCESS + NOT_ALLOWED + UNUSABLE * 2,
        [(b"S: x\n\nb\n", b"a@b", b"Tj@example.org\0", False)],
        0,
    )


def test_qmtp_turns_dos_lines_into_ours_and_leaves_other_returns(hosts: RcptHosts) -> None:
    wire = qmtp(b"\ra\r\n\r\r\nb\rc\r", b"", b"j@example.org")
    assert converse(QmtpSession(hosts, None, 0), cut(wire, [1]))[1][0][0] == b"a\n\r\nb\rc\r"


def test_qmtp_relays_for_whom_it_may(hosts: RcptHosts) -> None:
    wire = qmtp(b"\n", b"", b"x@else.where")
    assert converse(QmtpSession(hosts, b".relay", 0), [wire])[1] == [
        (b"", b"", b"Tx@else.where.relay\0", False)
    ]


@pytest.mark.parametrize("first", [b"\n", b"\r"])
def test_qmtp_has_a_largest_message(hosts: RcptHosts, first: bytes) -> None:
    too_big = encode(b"Dsorry, that message size exceeds my databytes limit (#5.3.4)")
    wires = [qmtp(first + b"x" * size, b"", b"j@example.org") for size in (4, 5)]
    assert converse(QmtpSession(hosts, None, 4), wires)[0] == SUCCESS + too_big


def test_a_sender_that_is_none_is_refused(hosts: RcptHosts) -> None:
    wire = qmtp(b"\n", b"a\0b", b"j@example.org")
    assert converse(QmtpSession(hosts, None, 0), [wire])[0] == encode(b"Dunacceptable sender (#5.1.7)")


def test_qmqp_takes_one_message_for_anybody() -> None:
    wire = qmqp(b"S: x\n", b"a@b", b"x@else.where", b"y")
    assert converse(QmqpSession(), [wire]) == (
        SUCCESS,
        [(b"S: x\n", b"a@b", b"Tx@else.where\0Ty\0", False)],
        0,
    )
    assert converse(QmqpSession(), [qmqp(b"", b"a", b"b", b"n\0")])[0] == BAD_ADDRESS


@pytest.mark.parametrize("wire", [b"9:5:abcdefg", b"5:0:,0:,,", b"3:9:a,", b"4:3:ab,", b"x", b"-1:"])
def test_what_leaves_its_netstring_is_refused(wire: bytes) -> None:
    assert converse(QmqpSession(), [wire])[2] == 100


@pytest.mark.parametrize("make", [QmqpSession, lambda: QmtpSession(RcptHosts(Controls("/nowhere")), None, 0)])
def test_a_message_that_cannot_be_opened_ends_it(make: Callable[[], NetstringSession]) -> None:
    assert converse(make(), [b"100:90:\n"], opens=False) == (b"", [], 111)


def test_a_million_recipients_are_answered_piece_by_piece(hosts: RcptHosts) -> None:
    session = QmtpSession(hosts, None, 0)
    count = 20_000
    replies, messages, _ = converse(session, [qmtp(b"\n", b"", *[b"j@example.org"] * count)])
    assert replies == SUCCESS * count
    assert messages[0][2].count(b"\0") == count


def test_the_home_may_be_missing(tmp_path: Path) -> None:
    assert RcptHosts(Controls(str(tmp_path))).allow(b"anybody@any.where")
