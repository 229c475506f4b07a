"""A message is handed to the queue in-process if the queue program is ours, else to that program."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from queues import MailHome, make_home

from qmail.queueing import enqueue, envelope
from qmail.queueing.enqueue import OwnQueue, QueueProgram

ENVELOPE = envelope.encode(b"a@b.c", [b"d@e.f", b"g@h.i"])


@pytest.fixture(autouse=True)
def _ignore_pipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("QMAILQUEUE", raising=False)
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", [0, 10, 70_000, 3_000_000])
def test_a_message_is_queued_in_this_process(mail_home: MailHome, size: int) -> None:
    before = descriptors()
    message = enqueue.open_message(str(mail_home.path))
    assert isinstance(message, OwnQueue)
    for _ in range(10):
        message.write(b"x" * (size // 10))
    assert message.commit(ENVELOPE) == b""
    (queued,) = mail_home.queued()
    assert queued.envelope == b"u%d\0p%d\0" % (os.getuid(), os.getpid()) + ENVELOPE[:-1]
    assert queued.message.startswith(b"Received: (qmail %d invoked by " % message.number)
    assert queued.message.partition(b"\n")[2] == b"x" * size
    assert descriptors() == before


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_message_that_is_given_up_leaves_nothing(mail_home: MailHome, size: int) -> None:
    before = descriptors()
    for end in ("abandon", "fail"):
        message = enqueue.open_message(str(mail_home.path))
        message.write(b"x" * size)
        if end == "fail":
            message.fail()
            message.write(b"y" * size)
            assert message.commit(ENVELOPE) == b"Zqq read error (#4.3.0)"
        else:
            message.abandon()
    assert mail_home.files() == []
    assert descriptors() == before


def test_a_bad_envelope_is_refused_and_leaves_nothing(mail_home: MailHome) -> None:
    for bad, verdict in (
        (b"F" + b"a" * 1003 + b"\0\0", b"Denvelope address too long for qq (#5.1.3)"),
        (b"Fa\0", b"Zqq read error (#4.3.0)"),
        (b"x", b"Zqq internal bug (#4.3.0)"),
    ):
        message = enqueue.open_message(str(mail_home.path))
        message.write(b"x" * 100_000)
        assert message.commit(bad) == verdict
    assert mail_home.files() == []


def test_trouble_with_the_queue_shows_in_the_verdict(mail_home: MailHome) -> None:
    (mail_home.path / "queue/intd").rmdir()
    message = enqueue.open_message(str(mail_home.path))
    message.write(b"x")
    assert message.commit(ENVELOPE) == b"Zqq trouble creating files in queue (#4.3.0)"
    (mail_home.path / "queue/intd").mkdir()
    assert mail_home.files() == []


def test_queue_files_have_their_mode_whatever_the_umask(mail_home: MailHome) -> None:
    old = os.umask(0o077)
    try:
        message = enqueue.open_message(str(mail_home.path))
        assert message.commit(ENVELOPE) == b""
    finally:
        os.umask(old)
    for name in mail_home.files():
        assert (mail_home.path / "queue" / name).stat().st_mode & 0o777 == 0o644, name


def test_another_program_is_run_as_the_originals_do(
    mail_home: MailHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"pwd >{tmp_path}/where; echo $$ >{tmp_path}/pid; cat >{tmp_path}/m; exec cat <&1 >{tmp_path}/e"
    monkeypatch.setenv("QMAILQUEUE", script(tmp_path / "qq", text))
    before = descriptors()
    message = enqueue.open_message(str(mail_home.path))
    assert isinstance(message, QueueProgram)
    message.write(b"x" * 100_000)
    message.write(b"end\n")
    assert message.commit(ENVELOPE) == b""
    assert (tmp_path / "m").read_bytes() == b"x" * 100_000 + b"end\n"
    assert (tmp_path / "e").read_bytes() == ENVELOPE
    assert (tmp_path / "where").read_text().strip() == str(mail_home.path)
    assert int((tmp_path / "pid").read_text()) == message.number
    assert descriptors() == before


VERDICTS = {
    "exit 0": b"", "exit 11": b"Denvelope address too long for qq (#5.1.3)",
    "exit 31": b"Dmail server permanently rejected message (#5.3.0)",
    "exit 40": b"Dqq permanent problem (#5.3.0)", "exit 41": b"Zqq temporary problem (#4.3.0)",
    "exit 53": b"Zqq write error or disk full (#4.3.0)", "exit 81": b"Zqq internal bug (#4.3.0)",
    "exit 91": b"Zqq internal bug (#4.3.0)", "exit 115": b"Denvelope address too long for qq (#5.1.3)",
    "exit 120": b"Zunable to exec qq (#4.3.0)", "kill -KILL $$": b"Zqq crashed (#4.3.0)",
    "printf 'Dno thanks' >&6; exit 82": b"Dno thanks", "exit 82": b"Zqq temporary problem (#4.3.0)",
    "head -c 300 /dev/zero | tr '\\0' Z >&6; exit 82": b"Z" * 255,
}  # fmt: skip


@pytest.mark.parametrize("text", VERDICTS)
def test_its_exit_code_is_the_verdict(
    mail_home: MailHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("QMAILQUEUE", script(tmp_path / "qq", f"cat >/dev/null; cat <&1 >/dev/null; {text}"))
    message = enqueue.open_message(str(mail_home.path))
    message.write(b"x")
    assert message.commit(ENVELOPE) == VERDICTS[text]


def test_a_program_that_reads_nothing_and_succeeds_is_not_believed(
    mail_home: MailHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMAILQUEUE", script(tmp_path / "qq", "exit 0"))
    message = enqueue.open_message(str(mail_home.path))
    message.write(b"x" * 1_000_000)
    assert message.commit(ENVELOPE) == b"Zqq read error (#4.3.0)"


def test_a_failed_message_ends_early_for_the_program(
    mail_home: MailHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"cat >/dev/null; cat <&1 >{tmp_path}/e; exit 0"
    monkeypatch.setenv("QMAILQUEUE", script(tmp_path / "qq", text))
    message = enqueue.open_message(str(mail_home.path))
    message.write(b"x")
    message.fail()
    assert message.commit(ENVELOPE) == b"Zqq read error (#4.3.0)"
    assert (tmp_path / "e").read_bytes() == b""


def test_a_missing_program_and_a_missing_home_have_their_verdicts(
    mail_home: MailHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMAILQUEUE", "bin/no-such-queue")
    assert enqueue.open_message(str(mail_home.path)).commit(ENVELOPE) == b"Zunable to exec qq (#4.3.0)"
    nowhere = enqueue.open_message(str(tmp_path / "nowhere")).commit(ENVELOPE)
    assert nowhere == b"Zqq trouble in home directory (#4.3.0)"


def test_our_own_program_under_another_name_is_still_queued_here(
    mail_home: MailHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "filter").symlink_to(Path(sys.prefix) / "bin/qmail-queue")
    monkeypatch.setenv("QMAILQUEUE", str(tmp_path / "filter"))
    assert isinstance(enqueue.open_message(str(mail_home.path)), OwnQueue)
