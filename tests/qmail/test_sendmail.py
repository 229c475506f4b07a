"""sendmail serves its callers: options that the vectors leave out, its other names, real mail readers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from programs import BIN, run
from queues import MailHome, make_home


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def sendmail(
    mail_home: MailHome, *options: str, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    return run("sendmail", *options, stdin=stdin, env={**mail_home.environment(USER="joe"), **env})


def recipients(envelope: bytes) -> list[bytes]:
    return [part[1:] for part in envelope.split(b"\0") if part.startswith(b"T")]


@pytest.mark.parametrize("options", [["-q"], ["-q15m"], ["-q", "-v"], ["-vq1h"]])
def test_running_the_queue_is_nothing_to_do(mail_home: MailHome, options: list[str]) -> None:
    done = sendmail(mail_home, *options, stdin=b"To: x\n\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert mail_home.files() == []


@pytest.mark.parametrize("options", [["-bd", "-q15m"], ["-bt"], ["-bi"], ["-b"], ["-y"]])
def test_other_modes_are_refused(mail_home: MailHome, options: list[str]) -> None:
    done = sendmail(mail_home, *options)
    assert done.returncode == 100
    assert done.stderr.endswith(
        b"sendmail: usage: sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]\n"
    )


@pytest.mark.parametrize(
    "options", [["-E", "-Jx", "x@y.z"], ["-oem", "-oi", "-B", "8BITMIME", "-p", "x:y", "x@y.z"]]
)
def test_options_of_other_times_are_ignored(mail_home: MailHome, options: list[str]) -> None:
    assert sendmail(mail_home, *options, stdin=b"Subject: x\n\n").returncode == 0
    (queued,) = mail_home.queued()
    assert recipients(queued.envelope) == [b"x@y.z"]


def test_the_sender_is_the_author_too(mail_home: MailHome) -> None:
    variables = {"QMAILNAME": "N", "MAILNAME": "N", "NAME": "N", "QMAILHOST": "h.x", "MAILHOST": "h.x"}
    done = sendmail(mail_home, "-f", "a b@c@d.e", "x@y.z", stdin=b"\n", **variables)
    assert done.returncode == 0
    done = sendmail(mail_home, "-fsolo", "x@y.z", stdin=b"\n", **variables)
    assert done.returncode == 0
    first, second = sorted(mail_home.queued(), key=lambda queued: b"solo" in queued.envelope)
    assert b'\nFrom: "a b@c"@d.e\n' in first.message
    assert b"Fa b@c@d.e\0" in first.envelope
    assert b"\nFrom: solo@mx.example.org\n" in second.message
    assert b"Fsolo@mx.example.org\0" in second.envelope


def test_called_as_mailq_it_lists_the_queue(mail_home: MailHome, tmp_path: Path) -> None:
    (tmp_path / "mailq").symlink_to(BIN / "sendmail")
    assert sendmail(mail_home, "x@y.z", stdin=b"\n").returncode == 0
    done = run(tmp_path / "mailq", env=mail_home.environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")  # not yet preprocessed: not listed


def test_without_a_home_it_says_so(mail_home: MailHome) -> None:
    done = sendmail(mail_home, "x", QMAILHOME="/nonexistent")
    assert (done.returncode, done.stderr) == (
        111, b"sendmail: fatal: unable to switch to qmail home directory\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "name"), [(["x"], b"qmail-inject"), (["-bs"], b"qmail-smtpd"), (["-bp"], b"qmail-qread")]
)
def test_a_missing_program_is_reported(tmp_path: Path, options: list[str], name: bytes) -> None:
    done = run("sendmail", *options, env={"PATH": "/usr/bin:/bin", "QMAILHOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (111, b"sendmail: fatal: unable to run %b\n" % name)


def test_smtp_takes_a_message(mail_home: MailHome) -> None:
    dialogue = (
        b"HELO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d.e>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n"
    )
    done = sendmail(mail_home, "-bs", stdin=dialogue)
    assert done.returncode == 0
    (queued,) = mail_home.queued()
    assert recipients(queued.envelope) == [b"c@d.e"]
    assert b"(sendmail-bs@127.0.0.1)" in queued.message


def send_with(mail_home: MailHome, package: str, program: str, *options: str, body: bytes) -> None:
    """Let a mail reader send `body` to three people."""
    if not shutil.which(program):
        pytest.skip(f"needs Debian's {package}")
    home = str(mail_home.path)
    people = ["-s", "a subject", "-c", "copy@x.y", "-b", "hidden@x.y", "bob@x.y"]
    environment = mail_home.environment(HOME=home, USER="joe", TERM="dumb")
    done = run(program, *options, *people, stdin=body, env=environment)
    assert done.returncode == 0, done.stderr


def test_mutt_sends_through_it(mail_home: MailHome) -> None:
    settings = (
        f'set sendmail="{BIN}/sendmail -oem -oi"', "set use_envelope_from=yes", "set copy=no",
        "set envelope_from_address=me@here.org", "set realname='Jane Doe'", "set from=me@here.org",
    )  # fmt: skip
    (mail_home.path / "muttrc").write_text("".join(f"{line}\n" for line in settings))
    body = b"a line\n.\nFrom here\n"
    send_with(mail_home, "mutt", "mutt", "-F", str(mail_home.path / "muttrc"), body=body)
    (queued,) = mail_home.queued()
    assert sorted(recipients(queued.envelope)) == [b"bob@x.y", b"copy@x.y", b"hidden@x.y"]
    assert b"Fme@here.org\0" in queued.envelope
    header, _, rest = queued.message.partition(b"\n\n")
    assert b"\nSubject: a subject\n" in header
    assert b"hidden" not in header
    assert rest == body


def test_s_nail_sends_through_it(mail_home: MailHome) -> None:
    options = ("-n", "-S", f"mta={BIN}/sendmail", "-S", "v15-compat", "-r", "me@here.org")
    send_with(mail_home, "s-nail", "s-nail", *options, body=b"a line\n")
    (queued,) = mail_home.queued()
    assert sorted(recipients(queued.envelope)) == [b"bob@x.y", b"copy@x.y", b"hidden@x.y"]
    assert b"Fme@here.org\0" in queued.envelope
    assert b"\nSubject: a subject\n" in queued.message
    assert queued.message.endswith(b"\n\na line\n")
