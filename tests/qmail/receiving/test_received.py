"""Received lines are qmail's, and nothing a client says can forge one."""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import run
from queues import make_home

from qmail.receiving.received import Peer, in_local_time, invoker, queued, safe

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


@pytest.fixture
def _india(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as there:
        there.setenv("TZ", "XXX-5:30")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_india")
def test_times_may_be_local() -> None:
    local = b"; 29 Sep 1995 09:04:39 +0530\n"
    assert queued(53, 0, WHEN, local_time=True).endswith(local)
    assert Peer({}).received(b"SMTP", WHEN, local_time=True).endswith(local)
    assert queued(53, 0, WHEN).endswith(b"; 29 Sep 1995 03:34:39 -0000\n")


@pytest.mark.parametrize(
    ("content", "local"),
    [(None, False), ("0\n", False), ("", False), ("x", False), ("1", True), ("10\n", True)],
)
def test_a_control_file_asks_for_local_times(tmp_path: Path, content: str | None, local: bool) -> None:
    (tmp_path / "control").mkdir()
    if content is not None:
        (tmp_path / "control/datelocaltime").write_text(content)
    assert in_local_time(str(tmp_path)) == local


def test_a_control_file_that_cannot_be_read_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "control/datelocaltime").mkdir(parents=True)
    assert not in_local_time(str(tmp_path))


@pytest.mark.usefixtures("_india")
def test_the_queue_and_smtp_heed_it(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    home.control("datelocaltime", "1\n")
    dialogue = b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@mx.example.org>\r\nDATA\r\n\r\n.\r\nQUIT\r\n"
    done = run("qmail-smtpd", stdin=dialogue, env=home.environment(TZ="XXX-5:30", RELAYCLIENT=""))
    assert b"250 ok " in done.stdout
    (message,) = home.queued()
    assert len(re.findall(rb"; \d.* \+0530\n", message.message)) == 2


def test_an_ordinary_user_is_a_number() -> None:
    assert invoker(os.getuid()) in (b"by uid %d" % os.getuid(), b"by alias", b"from network", b"for bounce")
