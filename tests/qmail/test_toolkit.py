"""The small programs for .qmail files, where the vectors leave off."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import environment, run
from queues import MailHome, make_home

from qmail import qbiff

LINES = {"UFLINE": "From x\n", "RPLINE": "Return-Path: <x>\n", "DTLINE": "Delivered-To: y\n"}


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def local(mail_home: MailHome, *argv: str, stdin: bytes = b"S: x\n\nbody\n", **env: str) -> tuple[int, bytes]:
    """Run a program as qmail-local would, the message being a file; return its code and what it said."""
    (mail_home.path / "message").write_bytes(stdin)
    script = 'exec "$@" <message'
    variables = {**mail_home.environment(), **LINES, "SENDER": "s@x.y", "NEWSENDER": "n@x.y", **env}
    done = run("sh", "-c", script, "sh", *argv, cwd=mail_home.path, env=variables)
    return done.returncode, done.stderr


def test_forward_queues_the_message_for_each_argument_as_it_is(mail_home: MailHome) -> None:
    code, said = local(mail_home, "forward", "a b@c", "--help", "$(x)@y")
    assert code == 0
    assert re.fullmatch(rb"forward: qp \d+\n", said)
    (queued,) = mail_home.queued()
    assert queued.envelope.endswith(b"Fn@x.y\0Ta b@c\0T--help\0T$(x)@y\0")
    assert queued.message.endswith(b"\nDelivered-To: y\nS: x\n\nbody\n")


def test_forward_takes_help_for_an_address(mail_home: MailHome) -> None:
    assert local(mail_home, "forward", "--help")[0] == 0
    assert len(mail_home.queued()) == 1


def test_forward_needs_its_variables(mail_home: MailHome) -> None:
    done = run("forward", "a@b", env=mail_home.environment(NEWSENDER="x"))
    assert (done.returncode, done.stderr) == (100, b"forward: fatal: DTLINE not set\n")


@pytest.mark.parametrize("program", ["forward", "condredirect"])
def test_what_cannot_be_read_is_not_forwarded(mail_home: MailHome, program: str) -> None:
    variables = {**mail_home.environment(SENDER="s", NEWSENDER="s"), **LINES}
    command = f'exec {program} a@b sh -c "exit 0" 0>unreadable'
    done = run("sh", "-c", command, cwd=mail_home.path, env=variables)
    assert (done.returncode, done.stderr.partition(b": fatal: ")[2]) == (
        111, b"unable to read message: file descriptor not open\n",
    )  # fmt: skip
    assert mail_home.files() == []


def test_condredirect_rewinds_what_the_program_has_read(mail_home: MailHome) -> None:
    code, said = local(mail_home, "condredirect", "new@x", "sh", "-c", "cat >/dev/null")
    assert code == 99
    assert re.fullmatch(rb"condredirect: qp \d+\n", said)
    (queued,) = mail_home.queued()
    assert queued.envelope.endswith(b"Fs@x.y\0Tnew@x\0")
    assert queued.message.endswith(b"\nDelivered-To: y\nS: x\n\nbody\n")


@pytest.mark.parametrize(
    ("program", "code"), [(["bouncesaying", "no"], 0), (["condredirect", "x"], 0), (["except"], 0)]
)
@pytest.mark.parametrize("command", ["/nonexistent", "./plain"])
def test_a_program_that_cannot_run_is_one_that_fails(
    mail_home: MailHome, program: list[str], code: int, command: str
) -> None:
    (mail_home.path / "plain").write_text("not executable\n")
    assert local(mail_home, *program, command) == (code, b"")


def test_the_condition_may_be_one_of_our_programs(mail_home: MailHome) -> None:
    assert local(mail_home, "except", "except", "false") == (100, b"")
    assert local(mail_home, "except", "except", "true") == (0, b"")
    assert local(mail_home, "bouncesaying", "go away", "except", "false") == (100, b"go away\n")
    assert local(mail_home, "bouncesaying", "go away", "except", "true") == (0, b"")
    assert local(mail_home, "bouncesaying", "go away", "true") == (100, b"go away\n")


def test_preline_notices_that_a_long_message_is_not_read(mail_home: MailHome) -> None:
    assert local(mail_home, "preline", "sh", "-c", "exit 3") == (3, b"")
    code, said = local(mail_home, "preline", "sh", "-c", "exit 3", stdin=b"x" * 10_000_000)
    assert (code, said) == (111, b"preline: fatal: unable to copy input: broken pipe\n")


@pytest.mark.parametrize(("size", "code"), [(8000, 3), (8300, 111)])
def test_how_much_goes_unread_is_what_counts(mail_home: MailHome, size: int, code: int) -> None:
    # The message comes in two parts, and the program is gone before either.
    message = '(cat gone; printf "%02000d" 0; sleep 0.1; printf "%0$1d" 0)'
    script = f'mkfifo gone; {message} | preline sh -c "exec >gone; exit 3"'
    variables = {**mail_home.environment(), **LINES}
    done = run("sh", "-c", script, "sh", str(size - 2000), cwd=mail_home.path, env=variables)
    assert done.returncode == code, done.stderr


def test_predate_does_not_mind(mail_home: MailHome) -> None:
    assert local(mail_home, "predate", "sh", "-c", "exit 3", stdin=b"x" * 10_000_000) == (3, b"")


@pytest.mark.parametrize(("program", "code"), [("preline", 100), ("predate", 111)])
def test_a_missing_program_is_named(mail_home: MailHome, program: str, code: int) -> None:
    said = b"%b: fatal: unable to run nosuch: file does not exist\n" % program.encode()
    assert local(mail_home, program, "nosuch") == (code, said)


def test_preline_feeds_programs_of_ours(mail_home: MailHome) -> None:
    assert local(mail_home, "preline", "-f", "forward", "a@b")[0] == 0
    (queued,) = mail_home.queued()
    assert queued.message.endswith(b"\nDelivered-To: y\nReturn-Path: <x>\nDelivered-To: y\nS: x\n\nbody\n")


def test_programs_in_a_pipe_get_the_default_signals(mail_home: MailHome) -> None:
    code, _ = local(
        mail_home, "preline", "sh", "-c", "grep SigIgn /proc/self/status >ignored; cat >/dev/null"
    )
    assert code == 0
    ignored = int((mail_home.path / "ignored").read_text().split()[1], 16)
    assert not ignored & 1 << 12  # SIGPIPE


def test_no_argument_of_mailsubj_can_add_a_field(mail_home: MailHome) -> None:
    done = run(
        "mailsubj",
        "hello\nBcc: spy@x.y",
        "bob@x.y\n\nbody",
        stdin=b"hi\n",
        env=mail_home.environment(USER="joe"),
    )
    assert done.returncode == 0, done.stderr
    (queued,) = mail_home.queued()
    header = queued.message.partition(b"\n\n")[0]
    assert b"\nSubject: hello Bcc: spy@x.y\n" in header
    assert b"\0Tspy@x.y" not in queued.envelope


def test_datemail_keeps_the_local_date(mail_home: MailHome) -> None:
    done = run(
        "datemail", "bob@x.y", stdin=b"Subject: x\n\n", env=mail_home.environment(USER="joe", TZ="XXX-5:45")
    )
    assert done.returncode == 0, done.stderr
    (queued,) = mail_home.queued()
    assert re.search(rb"^Date: \d.* \+0545$", queued.message, re.MULTILINE)


def test_a_receipt_names_the_message(mail_home: MailHome) -> None:
    message = b"Notice-Requested-Upon-Delivery-To: <other@x>, Me <me@x.y>\nMessage-ID: <1@x>\n\nbody\n"
    assert local(mail_home, "qreceipt", "me@x.y", stdin=message) == (0, b"")
    (queued,) = mail_home.queued()
    assert queued.envelope.endswith(b"F\0Ts@x.y\0")
    assert queued.message.endswith(b"Thanks for asking.\nYour Message-ID: <1@x>\n")


# qbiff.


def login(kind: int, line: bytes, user: bytes) -> bytes:
    return struct.pack("=hxxi32s4s32s256s", kind, 1, line, b"id", user, b"host") + b"\0" * 52


def test_the_records_are_those_of_this_system() -> None:
    assert len(login(7, b"", b"")) == qbiff.RECORD.size == 384


def test_only_the_users_own_terminals_are_told() -> None:
    logins = b"".join([
        login(7, b"pts/0", b"joe"), login(7, b"pts/1", b"jane"), login(8, b"pts/2", b"joe"),
        login(7, b"", b"joe"), login(7, b"/etc/x", b"joe"), login(7, b"../tmp/x", b"joe"),
        login(7, b"tty1", b"joe"), b"partial",
    ])  # fmt: skip
    assert list(qbiff.terminals(logins, b"joe")) == [b"pts/0", b"tty1"]


def test_user_and_line_may_fill_their_fields() -> None:
    assert list(qbiff.terminals(login(7, b"l" * 32, b"u" * 32), b"u" * 32)) == [b"l" * 32]


def test_the_announcement() -> None:
    shown = qbiff.announce(b"joe", b"a\033b@c", b"    subject\nbody\xe9")
    assert shown == b"\r\n\a*** TO <joe> FROM <a_b@c>\r\n    subject/body/\r\n"


@given(st.binary(), st.binary(), st.binary())
def test_an_announcement_cannot_control_the_terminal(recipient: bytes, sender: bytes, text: bytes) -> None:
    shown = qbiff.announce(recipient, sender, text)
    assert all(32 <= byte < 127 for byte in shown.removeprefix(b"\r\n\a").replace(b"\r\n", b""))


@given(st.binary(max_size=2000))
def test_damaged_records_do_no_harm(logins: bytes) -> None:
    assert all(b"." not in terminal for terminal in qbiff.terminals(logins, b"joe"))


@pytest.mark.parametrize(("mode", "seen"), [(0o700, b"hello"), (0o600, b"")])
def test_a_terminal_is_told_if_its_owner_ran_biff_y(mode: int, seen: bytes) -> None:
    ours, terminal = os.openpty()
    try:
        os.fchmod(terminal, mode)
        qbiff.tell(os.fsencode(os.ttyname(terminal)), b"hello")
        os.set_blocking(ours, False)
        try:
            shown = os.read(ours, 100)
        except BlockingIOError:
            shown = b""
        assert shown == seen
    finally:
        os.close(ours)
        os.close(terminal)


def test_qbiff_reads_it_all_and_says_nothing_here() -> None:
    variables = environment(USER="nobody-is-logged-in", SENDER="s", LOCAL="l")
    done = run("qbiff", stdin=b"Subject: x\n\n" + b"y" * 1_000_000, env=variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
