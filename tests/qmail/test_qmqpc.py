"""qmail-qmqpc hands a message to the first server that takes it, and tells qmail-queue's exit code."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from programs import BIN, free_port
from queues import MailHome, make_home

from qmail.qmqpc import address


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


@contextmanager
def server(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server for one client: its port, and what it has got once the block is left."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(30)
                data = b""
                while not complete(data) and (more := connection.recv(65536)):
                    data += more
                got.append(data)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], got
        finally:
            listener.close()
            thread.join(30)


def complete(data: bytes) -> bool:
    digits, colon, rest = data.partition(b":")
    return bool(colon) and len(rest) > int(digits)


def queue(mail_home: MailHome, message: bytes, envelope: bytes) -> int:
    """The exit code of qmail-qmqpc."""
    return queue_with(mail_home.environment(), mail_home.path, message, envelope)


def queue_with(env: dict[str, str], where: Path, message: bytes, envelope: bytes) -> int:
    (where / "message").write_bytes(message)
    (where / "envelope").write_bytes(envelope)
    files = [os.open(where / name, os.O_RDONLY) for name in ("message", "envelope")]
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(files)]
        program = str(BIN / "qmail-qmqpc")
        pid = os.posix_spawn(program, [program], env, file_actions=actions)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        for fd in files:
            os.close(fd)


@pytest.mark.parametrize(("answer", "code"), [(b"3:Kok,", 0), (b"3:Zno,", 71), (b"3:Dno,", 31), (b"", 74)])
def test_the_answer_is_the_exit_code(mail_home: MailHome, answer: bytes, code: int) -> None:
    with server(answer) as (port, got):
        mail_home.control("qmqpservers", f"127.0.0.1:{port}\n")
        assert queue(mail_home, b"S: x\n\nb\n", b"Fa@b.c\0Td@e\0Tf\0\0") == code
    assert got == [b"29:8:S: x\n\nb\n,5:a@b.c,3:d@e,1:f,,"]


def test_a_large_message_arrives_whole(mail_home: MailHome) -> None:
    message = os.urandom(20_000_000)
    with server(b"1:K,") as (port, got):
        mail_home.control("qmqpservers", f"127.0.0.1:{port}\n")
        assert queue(mail_home, message, b"F\0Td@e\0\0") == 0
    assert got[0].partition(b":")[2] == b"%d:%b,0:,3:d@e,," % (len(message), message)


def test_a_server_that_does_not_answer_the_call_is_passed_over(mail_home: MailHome) -> None:
    with server(b"1:K,") as (port, got):
        mail_home.control(
            "qmqpservers", f"# servers\nname.example\n127.0.0.1:{free_port()}\n127.0.0.1:{port}\n"
        )
        assert queue(mail_home, b"x", b"F\0Td@e\0\0") == 0
    assert len(got) == 1


def test_without_a_server_it_says_why(mail_home: MailHome) -> None:
    assert queue(mail_home, b"", b"F\0\0") == 55
    mail_home.control("qmqpservers", f"127.0.0.1:{free_port()}\n")
    assert queue(mail_home, b"", b"F\0\0") == 73
    assert queue(mail_home, b"", b"F") == 91
    assert queue(mail_home, b"", b"F" + b"a" * 100_000) == 11


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("127.0.0.1", (b"\x7f\0\0\1", 628)), ("127.0.0.1:6280", (b"\x7f\0\0\1", 6280)),
        ("10.0.0.1 comment", (b"\x0a\0\0\1", 628)), ("10.0.0.1:", (b"\x0a\0\0\1", 628)), ("name", None),
        ("", None), ("[::1]:77", (bytes(15) + b"\1", 77)), ("[", None),
    ],
)  # fmt: skip
def test_a_server_is_an_address_and_perhaps_a_port(line: str, where: tuple[bytes, int] | None) -> None:
    assert address(line) == where
