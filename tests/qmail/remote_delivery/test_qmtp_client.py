"""The QMTP client: each recipient's answer is reported, and a server that talks otherwise is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.netstrings import encode
from qmail.remote_delivery.qmtp_client import NotQmtp, Session


def session() -> Session:
    return Session(b"1.2.3.4", b"s@x.y", [b"a@x.y", b"b@x.y"])


def test_sends_message_sender_and_recipients_as_netstrings() -> None:
    asked = session()
    wire = asked.begin(6) + b"hello\n" + asked.end()
    assert wire == b"7:\nhello\n,5:s@x.y,16:5:a@x.y,5:b@x.y,,"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_reports_each_recipient(step: int) -> None:
    asked = session()
    wire = encode(b"Kfine") + encode(b"Dno such box")
    for start in range(0, len(wire), step):
        assert not asked.complete
        asked.feed(wire[start : start + step])
    assert asked.complete
    assert asked.report() == (
        b"r\0"
        b"h1.2.3.4 does not like recipient.\nRemote host said: no such box\n\0"
        b"KAll received okay by 1.2.3.4.\nRemote host said: fine\n\0"
    )


def test_gives_up_when_nobody_is_taken() -> None:
    asked = session()
    asked.feed(encode(b"Zlater") + encode(b"D"))
    assert asked.report() == (
        b"s1.2.3.4 does not like recipient.\nRemote host said: later\n\0"
        b"h1.2.3.4 does not like recipient.\n\0"
        b"DGiving up on 1.2.3.4.\n\0"
    )


@pytest.mark.parametrize("wire", [b"220 hello\r\n", b"0:,", b"1:X,", b"9999999999:", b"1:K,1:K,1:K,"])
def test_server_that_talks_otherwise_is_not_believed(wire: bytes) -> None:
    with pytest.raises(NotQmtp):
        session().feed(wire)


@given(st.binary())
def test_any_bytes_are_answers_or_not_qmtp(wire: bytes) -> None:
    asked = session()
    try:
        asked.feed(wire)
    except NotQmtp:
        return
    if asked.complete:
        assert asked.report().endswith(b"\0")
