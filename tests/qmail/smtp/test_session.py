"""An SMTP session gives the same replies, and the same messages, however its input is cut."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pieces import cut

from qmail.control import Controls
from qmail.receiving.incoming import Begin, Body, Close, End, NeedInput
from qmail.smtp.policy import NoGreeting, Policy
from qmail.smtp.session import Session

NOTHING = MappingProxyType[bytes, bytes]({})


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    control = tmp_path_factory.mktemp("control")
    (control / "me").write_bytes(b"mx.example.org\n")
    (control / "rcpthosts").write_bytes(b"example.org\n.sub.example.org\n")
    (control / "badmailfrom").write_bytes(b"bad@spam.example\n@worse.example\n")
    (control / "databytes").write_bytes(b"1000\n")
    return Policy.load(Controls(str(control)), NOTHING)


Outcome = tuple[bytes, list[tuple[bytes, bytes, bytes, bool]], int]


def converse(policy: Policy, pieces: list[bytes], verdict: bytes = b"") -> Outcome:
    """Feed the pieces and the end of input; return replies, messages, exit code."""
    session = Session(policy, b"client.example.com", lambda: frozenset())
    replies, messages, body = b"", [], b""
    waiting = [*pieces, b""]
    while True:
        event = session.next_event()
        replies += session.take_replies()
        match event:
            case NeedInput():
                session.receive(waiting.pop(0))
            case Begin():
                body = b""
                session.begun(opened=True)
            case Body(data):
                body += data
            case End(sender, recipients, refused):
                messages.append((b"" if refused else body, sender, bytes(recipients), refused))
                session.ended(verdict or (b"Zrefused" if refused else b""), 53, 812345679)
            case Close(code):
                return replies, messages, code


words = st.sampled_from([
    b"HELO x\r\n", b"EHLO\r\n", b"MAIL FROM:<a@b.c>\r\n", b"mail from:<bad@spam.example>\n",
    b"RCPT TO:<j@example.org>\r\n", b"rcpt to:<x@else.where>\r\n", b"DATA\r\n", b"Subject: x\r\n",
    b"\r\n", b".\r\n", b"..\r\n", b"\n", b"\r", b".", b"\0", b"RSET\r\n", b"NOOP \r\n", b"QUIT\r\n",
    b"x" * 600 + b"\r\n", b"MAIL FROM:<\"a b\\\"@c>\r\n", b"RCPT TO:<@r:y@a.SUB.example.org>\r\n", b"\xff",
    b"HELP\r\n", b"VRFY z\r\n", b"STARTTLS\r\n", b"MAIL FROM:<> SIZE=2000\r\n", b"Received: y\r\n" * 100,
])  # fmt: skip


@given(st.lists(words, max_size=25), st.lists(st.integers(1, 9), min_size=1))
def test_any_chunking_gives_the_same_session(policy: Policy, parts: list[bytes], steps: list[int]) -> None:
    wire = b"".join(parts)
    assert converse(policy, cut(wire, steps)) == converse(policy, [wire] if wire else [])


@given(st.lists(st.binary(min_size=1), max_size=20))
def test_no_bytes_break_it(policy: Policy, pieces: list[bytes]) -> None:
    replies, _, code = converse(policy, pieces)
    assert code in (0, 1)
    assert all(line[:3].isdigit() for line in replies.split(b"\r\n")[:-1])


def talk(policy: Policy, *lines: bytes, verdict: bytes = b"") -> list[bytes]:
    """The replies after the greeting."""
    return converse(policy, [b"".join(line + b"\r\n" for line in lines)], verdict)[0].split(b"\r\n")[1:-1]


def test_an_ordinary_message(policy: Policy) -> None:
    wire = (
        b"EHLO c\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<j@example.org>\r\nDATA\r\nS: x\r\n\r\n..y\r\n.\r\nQUIT\r\n"
    )
    assert converse(policy, [wire]) == (
        b"220 mx.example.org ESMTP\r\n"
        b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"
        b"250 ok\r\n250 ok\r\n354 go ahead\r\n250 ok 812345679 qp 53\r\n221 mx.example.org\r\n",
        [(b"S: x\n\n.y\n", b"a@b.c", b"Tj@example.org\0", False)],
        0,
    )


def test_an_announced_size_beyond_the_limit_is_refused_at_once(policy: Policy) -> None:
    assert talk(policy, b"MAIL FROM:<a@b> size=1001", b"RCPT TO:<j@example.org>") == [
        b"552 sorry, that message size exceeds my databytes limit (#5.3.4)",
        b"503 MAIL first (#5.5.1)",
    ]
    assert talk(policy, b"MAIL FROM:<a@b> SIZE=1000", b"MAIL FROM:<a@b> SIZE=x") == [b"250 ok", b"250 ok"]
    begun = (b"MAIL FROM:<a@b>", b"RCPT TO:<j@example.org>")
    assert talk(policy, *begun, b"MAIL FROM:<c@d> SIZE=1001", b"DATA")[-1] == b"503 MAIL first (#5.5.1)"


def test_a_message_beyond_the_limit_is_refused_and_the_session_goes_on(policy: Policy) -> None:
    start = (b"MAIL FROM:<a@b>", b"RCPT TO:<j@example.org>", b"DATA")
    assert talk(policy, *start, b"x" * 1000, b".", b"NOOP")[3:] == [
        b"552 sorry, that message size exceeds my databytes limit (#5.3.4)",
        b"250 ok",
    ]
    assert talk(policy, *start, b"x" * 999, b".")[3].startswith(b"250 ok")


@pytest.mark.parametrize(
    ("verdict", "reply"),
    [(b"Dno (#5.3.0)", b"554 no (#5.3.0)"), (b"Zlater (#4.3.0)", b"451 later (#4.3.0)")],
)
def test_the_queues_verdict_is_the_reply(policy: Policy, verdict: bytes, reply: bytes) -> None:
    lines = (b"MAIL FROM:<a@b>", b"RCPT TO:<j@example.org>", b"DATA", b".")
    assert talk(policy, *lines, verdict=verdict)[-1] == reply


def test_a_stray_newline_ends_the_session(policy: Policy) -> None:
    start = b"MAIL FROM:<evil>\r\nRCPT TO:<j>\r\nDATA\r\n"
    wire = start + b"hi\n.\r\n" + start + b"x\r\n.\r\n"
    replies, messages, code = converse(policy, [wire])
    assert replies.endswith(b"354 go ahead\r\n451 See https://cr.yp.to/docs/smtplf.html.\r\n")
    assert (messages, code) == ([], 1)


def test_a_command_without_end_is_cut_off(policy: Policy) -> None:
    replies, _, code = converse(policy, [b"x" * 65536] * 40)
    assert replies.endswith(b"\r\n421 out of memory (#4.3.0)\r\n")
    assert code == 1


def test_our_own_address_in_brackets_is_localiphost(policy: Policy) -> None:
    lines = (b"MAIL FROM:<a@[127.0.0.1]>", b"RCPT TO:<j@[127.0.0.1]>", b"RCPT TO:<j@[192.0.2.1]>")
    assert talk(policy, *lines) == [
        b"250 ok",
        b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
        b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
    ]
    wire = b"MAIL FROM:<a@[127.0.0.1]>\r\nRCPT TO:<j@example.org>\r\nDATA\r\n.\r\n"
    assert converse(policy, [wire])[1][0][1] == b"a@mx.example.org"


def test_without_a_name_there_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(NoGreeting):
        Policy.load(Controls(str(tmp_path)), NOTHING)


@pytest.mark.parametrize(("content", "timeout"), [("0", 1), ("60", 60), ("99999999999999999999", 2_000_000)])
def test_a_timeout_is_one_that_can_be_waited(tmp_path: Path, content: str, timeout: int) -> None:
    (tmp_path / "me").write_text("mx.example.org\n")
    (tmp_path / "timeoutsmtpd").write_text(content)
    assert Policy.load(Controls(str(tmp_path)), NOTHING).timeout == timeout
