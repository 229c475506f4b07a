"""qmail-inject as a program: what the vectors leave out.  Hostile sizes, trouble with files, our queue."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from programs import BIN, DEADLINE, run
from queues import MailHome, make_home

MEGABYTE = 1 << 20


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def inject(
    mail_home: MailHome, *options: str, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    variables = {**mail_home.environment(USER="joe"), **env}
    return run("qmail-inject", *options, stdin=stdin, env=variables)


def recipients(envelope: bytes) -> list[bytes]:
    return [part[1:] for part in envelope.split(b"\0") if part.startswith(b"T")]


def test_a_message_is_queued_by_our_own_queue(mail_home: MailHome) -> None:
    done = inject(mail_home, "x@y.z", stdin=b"To: bob\n\nhello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (queued,) = mail_home.queued()
    assert queued.message.endswith(b"To: bob@mx.example.org\n\nhello\n")
    assert recipients(queued.envelope) == [b"x@y.z"]
    assert b"Fjoe@mx.example.org\0" in queued.envelope


def test_a_refused_header_queues_nothing(mail_home: MailHome) -> None:
    done = inject(mail_home, stdin=b"To: bob\nFrom: (\n\nhello\n")
    assert done.returncode == 100
    assert done.stderr == b"qmail-inject: fatal: unable to parse this line:\nFrom: (\n"
    assert mail_home.files() == []


def test_the_message_id_holds_the_time_and_the_pid(mail_home: MailHome) -> None:
    before = int(time.time())
    with subprocess.Popen(
        [BIN / "qmail-inject", "-n"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=mail_home.environment(),
    ) as process:
        assert process.stdout
        text = process.stdout.read()
    found = re.search(rb"^Message-ID: <(\d{14})\.(\d+)\.qmail@mx\.example\.org>$", text, re.MULTILINE)
    assert found
    assert int(found[2]) == process.pid
    stamp = time.strptime(found[1].decode() + " UTC", "%Y%m%d%H%M%S %Z")
    assert before <= int(time.mktime(stamp) - time.timezone) <= time.time()


@pytest.mark.parametrize(("content", "zone"), [("1\n", b"+0545"), ("0\n", b"-0000"), (None, b"-0000")])
def test_the_date_may_be_local(mail_home: MailHome, content: str | None, zone: bytes) -> None:
    if content:
        mail_home.control("datelocaltime", content)
    done = inject(mail_home, "-n", TZ="XXX-5:45")
    assert re.search(rb"^Date: .* (\S+)$", done.stdout, re.MULTILINE)[1] == zone  # type: ignore[index]


@pytest.mark.parametrize("name", ["me", "defaulthost", "idhost"])
def test_a_control_file_that_cannot_be_read_is_an_error(mail_home: MailHome, name: str) -> None:
    (mail_home.path / "control" / name).unlink(missing_ok=True)
    (mail_home.path / "control" / name).mkdir()
    done = inject(mail_home, "x")
    assert (done.returncode, done.stderr) == (111, b"qmail-inject: fatal: read error\n")


def test_without_a_home_it_gives_up(mail_home: MailHome) -> None:
    done = inject(mail_home, "x", QMAILHOME="/nonexistent")
    assert (done.returncode, done.stderr) == (111, b"qmail-inject: fatal: internal bug\n")


def test_a_message_that_cannot_be_read_is_an_error(mail_home: MailHome) -> None:
    done = run(
        "sh", "-c", "exec qmail-inject x 0>unreadable", cwd=mail_home.path, env=mail_home.environment()
    )
    assert (done.returncode, done.stderr) == (111, b"qmail-inject: fatal: read error\n")
    assert mail_home.files() == []


def test_without_a_queue_program_it_gives_up(mail_home: MailHome) -> None:
    done = inject(mail_home, "x", QMAILQUEUE="/nonexistent")
    assert (done.returncode, done.stderr) == (111, b"qmail-inject: fatal: unable to exec qq (#4.3.0)\n")


def test_printing_to_nobody_is_no_error(mail_home: MailHome) -> None:
    message = b"To: x\n\n" + b"y" * MEGABYTE
    script = "{ qmail-inject -n; echo $? >code; } | sleep 0"
    done = run("sh", "-c", script, stdin=message, cwd=mail_home.path, env=mail_home.environment())
    assert (mail_home.path / "code").read_text() == "0\n"
    assert done.stderr == b""


def test_a_message_to_a_list_gets_a_followup_field(mail_home: MailHome, tmp_path: Path) -> None:
    (tmp_path / "lists").write_text("# mine\nList@Example.ORG\n")
    stdin = b"To: list@example.org, Bob <bob@b.c>\nCc: joe\n\n"
    done = inject(mail_home, "-n", stdin=stdin, QMAILMFTFILE=str(tmp_path / "lists"))
    assert b"Mail-Followup-To: joe@mx.example.org,\n  list@example.org,\n  bob@b.c\n" in done.stdout
    assert b"Followup" not in inject(mail_home, "-n", stdin=stdin).stdout


def confined(
    mail_home: MailHome, kilobytes: int, pieces: Iterable[bytes], *options: str
) -> tuple[int, bytes]:
    """Feed `pieces` to it while it may have so much address space; return exit code and descriptor 2."""
    command = ["sh", "-c", f'ulimit -v {kilobytes}; exec qmail-inject "$@"', "sh", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=mail_home.environment(USER="joe")
    ) as process:
        assert process.stdin
        assert process.stderr
        watchdog = threading.Timer(300, process.kill)
        watchdog.start()
        try:
            with process.stdin as stdin:
                for piece in pieces:
                    stdin.write(piece)
        except BrokenPipeError:
            pass
        said = process.stderr.read()
        code = process.wait()
        watchdog.cancel()
    return code, said


ROOM = 64 * 1024  # kilobytes; the interpreter alone has 30,000


def test_a_long_line_in_header_or_body_is_not_held(mail_home: MailHome) -> None:
    block = b"x" * MEGABYTE
    message = [b"Subject: ", *[block] * 100, b"\n\n", *[block] * 100]
    assert confined(mail_home, ROOM, message, "x@y.z") == (0, b"")
    (todo,) = mail_home.queue.numbers("todo")
    assert os.path.getsize(mail_home.queue.mess(todo)) > 200 * MEGABYTE


def test_many_fields_need_little_memory(mail_home: MailHome) -> None:
    fields = (b"X-%d: %b\n" % (n, b"y" * 200) for n in range(300_000))
    assert confined(mail_home, ROOM, fields, "x@y.z") == (0, b"")
    (todo,) = mail_home.queue.numbers("todo")
    assert os.path.getsize(mail_home.queue.mess(todo)) > 60 * MEGABYTE


@pytest.mark.parametrize("form", ["fields", "list"])
def test_all_of_many_recipients_are_used(mail_home: MailHome, form: str) -> None:
    count = 50_000
    one_by_one = (b"To: u%d@example.org\n" % n for n in range(count))
    together = (b"%bu%d@example.org" % (b",\n " if n else b"To: ", n) for n in range(count))
    assert confined(mail_home, ROOM, one_by_one if form == "fields" else together) == (0, b"")
    (queued,) = mail_home.queued()
    assert sorted(recipients(queued.envelope)) == sorted(b"u%d@example.org" % n for n in range(count))
    assert queued.message.count(b"@example.org") == count


@pytest.mark.parametrize("room", [ROOM, 10 * ROOM])
@pytest.mark.parametrize("filling", [b"x", b"(", b".", b'"', b"\\", b"(),"])
def test_an_endless_address_is_refused(mail_home: MailHome, filling: bytes, room: int) -> None:
    block = filling * (MEGABYTE // len(filling))
    code, said = confined(mail_home, room, [b"To: ", *[block] * 100])
    assert (code, said) == (111, b"qmail-inject: fatal: out of memory\n")
    assert mail_home.files() == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_no_room_for_a_long_header_is_for_later(mail_home: MailHome) -> None:
    room = mail_home.path / "room"
    room.mkdir()
    (mail_home.path / "long").write_bytes(b"X: y\n" * MEGABYTE)
    script = f"mount -t tmpfs -o size=1m none {room} && exec qmail-inject x <long"
    variables = mail_home.environment(TMPDIR=str(room))
    done = run("unshare", "--mount", "sh", "-c", script, cwd=mail_home.path, env=variables)
    said = b"qmail-inject: fatal: unable to keep the header: out of disk space\n"
    assert (done.returncode, done.stderr) == (111, said)
    assert mail_home.files() == []


def test_killed_while_it_waits_it_leaves_nothing(mail_home: MailHome) -> None:
    with subprocess.Popen(
        [BIN / "qmail-inject", "x"], stdin=subprocess.PIPE, env=mail_home.environment()
    ) as process:
        assert process.stdin
        process.stdin.write(b"To: x\n\n")
        process.stdin.flush()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == -signal.SIGTERM
    assert mail_home.files() == []
