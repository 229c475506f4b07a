"""qmail-rspawn runs qmail-remote as PATH has it, and makes one verdict of its two paragraphs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queues import MailHome, make_home
from spawners import own_bin, put_message, put_program, spawner

from qmail import rspawn
from qmail.spawning.orders import MAX_TEXT


@pytest.fixture
def home(tmp_path: Path) -> MailHome:
    made = make_home(tmp_path / "mail")
    put_message(made)
    return made


def test_another_qmail_remote_in_path_wins(home: MailHome) -> None:
    put_program(own_bin(home) / "qmail-remote", "printf 'r\\0Ktaken: %s\\n\\0' \"$*\"")
    with spawner(home, "qmail-rspawn") as started:
        assert started.deliver(b"a@b@host") == b"Ktaken: host s@x.y a@b@host\n"
        assert started.close() == 0


def test_qmailremote_names_another_program(home: MailHome, tmp_path: Path) -> None:
    program = put_program(tmp_path / "other", "cat; printf 'r\\0K'; printf 'x\\0'")
    with spawner(home, "qmail-rspawn", QMAILREMOTE=str(program)) as started:
        assert started.deliver(b"a@x") == b"Kubject: test\n\nhello\nrx"


def test_our_own_qmail_remote_works_again_and_again(home: MailHome) -> None:
    home.control("smtproutes", ":127.0.0.1:1\n")  # nobody listens there
    home.control("timeoutconnect", "5\n")
    with spawner(home, "qmail-rspawn") as started:
        for _ in range(3):
            text = started.deliver(b"a@example.org")
            assert text.startswith(b"Z"), text
            assert b"(#4.4.1)" in text


def test_a_program_of_ours_that_becomes_another_is_that_one_for_one_delivery(home: MailHome) -> None:
    with spawner(home, "qmail-rspawn", QMAILREMOTE="argv0") as started:  # argv0 host sender recipient
        for _ in range(2):
            assert started.deliver(b"a@true") == b"Zqmail-remote produced no output.\n"
            assert started.deliver(b"a@false") == b"DUnable to run qmail-remote.\n"
            assert started.deliver(b"a@no-such-program") == b"ZUnable to run qmail-remote.\n"


def test_a_crash_takes_one_delivery_with_it(home: MailHome, tmp_path: Path) -> None:
    program = put_program(tmp_path / "other", "kill -9 $$")
    with spawner(home, "qmail-rspawn", QMAILREMOTE=str(program)) as started:
        assert [started.deliver(b"a@x") for _ in range(2)] == [b"Zqmail-remote crashed.\n"] * 2


def test_hosts_that_timed_out_get_another_chance_at_the_start(home: MailHome) -> None:
    table = home.path / "queue/lock/tcpto"
    table.write_bytes(b"\1" * 1024)
    with spawner(home, "qmail-rspawn"):
        assert table.read_bytes() == bytes(1024)


def test_a_program_that_is_not_there_is_a_failure_for_good(home: MailHome, tmp_path: Path) -> None:
    with spawner(home, "qmail-rspawn", QMAILREMOTE=str(tmp_path / "none")) as started:
        assert started.deliver(b"a@x") == b"DUnable to run qmail-remote.\n"


def test_words_without_end_are_bounded(home: MailHome, tmp_path: Path) -> None:
    program = put_program(tmp_path / "other", "printf 'r\\0K'; head -c 20000000 /dev/zero | tr '\\0' x")
    with spawner(home, "qmail-rspawn", QMAILREMOTE=str(program)) as started:
        before = peak_memory(started.process.pid)
        assert len(started.deliver(b"a@x")) == MAX_TEXT
        assert peak_memory(started.process.pid) - before < 10_000


def peak_memory(pid: int) -> int:
    """In kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (b"r\0Kdone\n\0", b"Kdone\n"),
        (b"rfine\n\0Kdone\n\0", b"Kfine\ndone\n"),
        (b"hno\n\0Kdone\n\0", b"Dno\n"),
        (b"slater\n\0Kdone\n\0", b"Zlater\n"),
        (b"slater\n\0Zlater too\n\0", b"Zlater\nlater too\n"),
        (b"hno\n\0Dno at all\n\0", b"Dno\nno at all\n"),
        (b"r\0Dno at all\n\0", b"Dno at all\n"),
        (b"r\0", b"D"),
        (b"r", b"D"),
        (b"\0", b"D"),
        (b"\0\0\0K\0", b"K"),
        (b"Kdone\n\0", b"Kdone\n"),
        (b"Kdone\n", b"D"),
        (b"x\0y\0Z\0", b"Z"),
    ],
)
def test_two_paragraphs_make_one_verdict(output: bytes, text: bytes) -> None:
    assert rspawn.report(0, output) == text


@given(st.integers(-64, 255), st.lists(st.sampled_from([b"r", b"h", b"s", b"K", b"Z", b"D", b"\0", b"x"])))
def test_whatever_it_says_there_is_a_verdict(status: int, pieces: list[bytes]) -> None:
    text = rspawn.report(status, b"".join(pieces))
    assert text[:1] in (b"K", b"Z", b"D")
    assert b"\0" not in text
    if status:
        assert text[:1] != b"K"


@given(st.lists(st.sampled_from([b"h", b"s", b"K", b"Z", b"D", b"\0", b"x"])))
def test_a_refused_or_deferred_recipient_is_never_a_success(pieces: list[bytes]) -> None:
    for letter in (b"h", b"s"):
        assert rspawn.report(0, letter + b"".join(pieces))[:1] != b"K"
