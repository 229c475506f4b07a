"""dot-forward does what sendmail would with the file, and tells qmail-local whether to go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import run
from queues import MailHome, make_home

from qmail.header.tokens import Unparsable
from qmail.local_delivery.forward_file import COMMAND, DIRECT, FILE, FORWARD, INCLUDE, ForwardFile

FROM, RETURN, DELIVERED = "From x\n", "Return-Path: <x>\n", "Delivered-To: me@h.org\n"
MESSAGE = b"Subject: x\n\nbody\n"
reader = ForwardFile(b"Me", b"H.org", b"mx.example.org", b"example.org", b"plus.net")


@pytest.mark.parametrize(
    ("line", "instructions"),
    [
        (b"", []),
        (b"# a@b", []),
        (b" # a@b", [(FORWARD, b"a@b.example.org"), (FORWARD, b"#@mx.example.org")]),
        (b"joe@x.y", [(FORWARD, b"joe@x.y")]),
        (b"bob (B) @x.y, A <fred>, joe@x+", [
            (FORWARD, b"joe@x.plus.net"), (FORWARD, b"fred@mx.example.org"), (FORWARD, b"bob@x.y"),
        ]),
        (b"fred joe", [(FORWARD, b"joe@mx.example.org"), (FORWARD, b"fred@mx.example.org")]),
        (b"me", [(DIRECT, b"")]),
        (b"\\ME, a@b.c", [(FORWARD, b"a@b.c"), (DIRECT, b"")]),
        (b"me@h.ORG", [(DIRECT, b"")]),
        (b'"|vacation me"', [(COMMAND, b"vacation me")]),
        (b'|"vacation me"', [(COMMAND, b"vacation me")]),
        (b"|/bin/x", [(COMMAND, b"/bin/x")]),
        (b'"|a, b@c"', [(COMMAND, b"a, b@c")]),
        (b"|a@b.c", [(FORWARD, b"|a@b.c")]),
        (b"/var/mail/me", [(FILE, b"/var/mail/me")]),
        (b"/home/me/Maildir/", [(FILE, b"/home/me/Maildir/")]),
        (b":include:/etc/list.txt", [(INCLUDE, b"/etc/list.txt")]),
        (b'":Include:/a b"', [(INCLUDE, b"/a b")]),
        (b"a@b.c, :include: /l, d@e.f\n", [(FORWARD, b"d@e.f"), (INCLUDE, b"/l"), (FORWARD, b"a@b.c")]),
        (b"<>", []),
        (b"z@[1.2.3.4]", [(FORWARD, b"z@[1.2.3.4]")]),
    ],
)  # fmt: skip
def test_instructions(line: bytes, instructions: list[tuple[str, bytes]]) -> None:
    assert list(reader.read(line)) == instructions


def test_a_line_with_a_nul_is_no_line() -> None:
    with pytest.raises(Unparsable):
        list(reader.read(b"a@b.c\0d"))


@given(st.binary() | st.text('ab,@.<>:;()[]"\\ |/#').map(str.encode))
def test_any_line_is_understood_or_unparsable(line: bytes) -> None:
    try:
        instructions = list(reader.read(line))
    except Unparsable:
        return
    assert all(b"@" in value and b"." in value for kind, value in instructions if kind == FORWARD)


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    home = make_home(tmp_path / "home")
    (home.path / "message").write_bytes(MESSAGE)
    return home


def dot_forward(mail_home: MailHome, *argv: str, content: str | None = None) -> tuple[int, bytes]:
    """Run it as qmail-local does, with `content` as .forward; return its code and what it said."""
    if content is not None:
        (mail_home.path / ".forward").write_text(content)
    variables = mail_home.environment(
        USER="me", HOST="h.org", UFLINE=FROM, RPLINE=RETURN, DTLINE=DELIVERED, NEWSENDER="n@x.y"
    )
    argv = argv or (".forward",)
    done = run("sh", "-c", 'exec dot-forward "$@" <message', "sh", *argv, cwd=mail_home.path, env=variables)
    return done.returncode, done.stderr


def test_without_a_file_qmail_local_goes_on(mail_home: MailHome) -> None:
    assert dot_forward(mail_home) == (0, b"")
    assert dot_forward(mail_home, content="\n# nothing\n") == (0, b"")


def test_the_first_file_with_instructions_counts(mail_home: MailHome) -> None:
    (mail_home.path / "empty").write_text("#\n")
    (mail_home.path / "second").write_text("b@x.y\n")
    assert dot_forward(mail_home, "missing", "empty", ".forward", "second", content="a@x.y\n")[0] == 99
    (queued,) = mail_home.queued()
    assert queued.envelope.endswith(b"Fn@x.y\0Ta@x.y\0")
    assert queued.message.endswith(b"\nDelivered-To: me@h.org\n" + MESSAGE)


def test_the_own_address_lets_qmail_local_go_on(mail_home: MailHome) -> None:
    assert dot_forward(mail_home, content="\\me, a@x.y\n")[0] == 0
    assert len(mail_home.queued()) == 1


def test_commands_and_files_get_the_whole_message(mail_home: MailHome) -> None:
    box, maildir = mail_home.path / "box", mail_home.path / "Maildir"
    run("maildirmake", maildir)
    command = f'"|cat >{mail_home.path}/piped"'
    assert dot_forward(mail_home, content=f"{command}\n{box}\n{maildir}/\n{command}\n") == (99, b"")
    lines = (RETURN + DELIVERED).encode()
    assert (mail_home.path / "piped").read_bytes() == FROM.encode() + lines + MESSAGE
    assert box.read_bytes() == FROM.encode() + lines + MESSAGE + b"\n"
    (delivered,) = (maildir / "new").iterdir()
    assert delivered.read_bytes() == lines + MESSAGE


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("exit 100", 100),
        ("exit 64", 100),
        ("exit 99", 111),
        ("exit 1", 111),
        ("exit 111", 111),
        ("exit 0", 99),
    ],
)
def test_the_verdict_of_a_command(mail_home: MailHome, command: str, code: int) -> None:
    assert dot_forward(mail_home, content=f'"|{command}"\n') == (code, b"")


def test_nothing_is_forwarded_if_a_command_fails(mail_home: MailHome) -> None:
    code, said = dot_forward(mail_home, content='a@b.c\n"|kill -9 $$"\n')
    assert (code, said) == (111, b"dot-forward: fatal: child crashed\n")
    assert mail_home.files() == []


def test_included_files_are_followed(mail_home: MailHome) -> None:
    (mail_home.path / "list").write_text("a@x.y\n# comment\nb@x.y\n")
    assert dot_forward(mail_home, content=f":include:{mail_home.path}/list\n")[0] == 99
    (queued,) = mail_home.queued()
    assert queued.envelope.endswith(b"Ta@x.y\0Tb@x.y\0")


def test_a_file_that_includes_itself_is_an_error(mail_home: MailHome) -> None:
    assert dot_forward(mail_home, content=f":include:{mail_home.path}/.forward\n") == (
        111, b"dot-forward: fatal: too many files include one another\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a@b (\n", b"unable to parse this line: a@b ("),
        (":include:/nonexistent\n", b"unable to open /nonexistent: file does not exist"),
        ("/nonexistent/box\n", b"Unable to open /nonexistent/box: file does not exist. (#4.2.1)"),
        ("/nonexistent/\n", b"Unable to chdir to maildir. (#4.2.1)"),
    ],
)
def test_trouble_is_for_later(mail_home: MailHome, content: str, said: bytes) -> None:
    assert dot_forward(mail_home, content=content) == (111, b"dot-forward: fatal: " + said + b"\n")


def test_a_directory_is_no_file(mail_home: MailHome) -> None:
    (mail_home.path / ".forward").mkdir()
    assert dot_forward(mail_home) == (111, b"dot-forward: fatal: unable to read .forward: is a directory\n")


def test_it_can_tell_without_doing(mail_home: MailHome) -> None:
    code, said = dot_forward(mail_home, "-n", ".forward", content='a, "|exit 1"\n/box\nme\n')
    assert code == 0
    assert said == b"pipe through exit 1\nforward a@mx.example.org\nappend to /box\ndirect delivery\n"
    assert mail_home.files() == []
    code, said = dot_forward(mail_home, "-n", "-N", "-n", ".forward", content="#\n")
    assert (code, said) == (0, b"skipping empty file .forward\ndirect delivery\n")


def test_wrong_options(mail_home: MailHome) -> None:
    assert dot_forward(mail_home, "-x") == (
        100, b"dot-forward: illegal option -- x\ndot-forward: usage: dot-forward [ -nN ] file ...\n",
    )  # fmt: skip
