"""Received lines are qmail's, and nothing a client says can forge one."""

from __future__ import annotations

import os
import pwd

from hypothesis import given
from hypothesis import strategies as st

from qmail.received import Peer, invoker, queued, safe

WHEN = 812345679


def test_a_client_that_is_known() -> None:
    peer = Peer({
        b"TCPREMOTEIP": b"192.48.96.5", b"TCPREMOTEHOST": b"relay1.uu.net", b"TCPREMOTEINFO": b"7",
        b"TCPLOCALHOST": b"silverton.berkeley.edu", b"TCPLOCALIP": b"1.2.3.4",
    })  # fmt: skip
    assert peer.received(b"SMTP", WHEN, b"uunet.uu.net") == (
        b"Received: from relay1.uu.net (HELO uunet.uu.net) (7@192.48.96.5)\n"
        b"  by silverton.berkeley.edu with SMTP; 29 Sep 1995 03:34:39 -0000\n"
    )


def test_a_client_that_is_not() -> None:
    assert Peer({b"TCPLOCALIP": b"1.2.3.4"}).received(b"QMTP", WHEN) == (
        b"Received: from unknown (unknown)\n  by 1.2.3.4 with QMTP; 29 Sep 1995 03:34:39 -0000\n"
    )


@given(st.binary())
def test_unsafe_bytes_become_question_marks(text: bytes) -> None:
    made = safe(text)
    assert len(made) == len(text)
    assert not set(made) & set(b"\r\n\0 ()<>\\\"'\t\x1b\x80")


def test_the_line_of_qmail_queue() -> None:
    uid = max((user.pw_uid for user in pwd.getpwall()), default=0) + 12345
    assert queued(53, uid, WHEN) == (
        b"Received: (qmail 53 invoked by uid %d); 29 Sep 1995 03:34:39 -0000\n" % uid
    )


def test_an_ordinary_user_is_a_number() -> None:
    assert invoker(os.getuid()) in (b"by uid %d" % os.getuid(), b"by alias", b"from network", b"for bounce")
