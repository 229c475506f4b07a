"""qmail-smtpd with real clients: accepted is on disk, refused leaves nothing, memory is bounded."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import BIN, eventually, free_port, run, running
from queues import MailHome, make_home
from traces import needs_strace

TEXT = "From: a@b.c\nSubject: x\n\n.dot\nbody\n"
MEGABYTE = 1 << 20


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    made = make_home(tmp_path / "home")
    made.control("rcpthosts", "example.org\n")
    return made


@pytest.fixture
def port(mail_home: MailHome) -> Iterator[int]:
    """The port of a tcpserver that runs qmail-smtpd."""
    chosen = free_port()
    server = ("tcpserver", "-RHl0", "-c", "20", "127.0.0.1", str(chosen), "qmail-smtpd")
    with running(*server, env=mail_home.environment()):
        eventually(lambda: listens(chosen), "tcpserver listens")
        yield chosen


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def bodies(mail_home: MailHome) -> list[bytes]:
    """The queued messages below the two Received fields."""
    return [queued.message.split(b"\n", 3)[3] for queued in mail_home.queued()]


ADDRESSES = "--from a@b.c --to j@example.org"
CLIENTS = {
    "swaks": f"swaks --server 127.0.0.1:@PORT@ {ADDRESSES} --data -",
    "swaks, pipelined": f"swaks --server 127.0.0.1:@PORT@ {ADDRESSES} --pipeline --data -",
    "msmtp": "msmtp --host=127.0.0.1 --port=@PORT@ --from=a@b.c j@example.org",
    "curl": "curl -sS smtp://127.0.0.1:@PORT@ --mail-from a@b.c --mail-rcpt j@example.org --crlf -T -",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_real_client_hands_over_a_message(mail_home: MailHome, port: int, client: str) -> None:
    argv = CLIENTS[client].replace("@PORT@", str(port)).split()
    if not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is not installed")
    done = run(*argv, stdin=TEXT.encode(), env=mail_home.environment(HOME=str(mail_home.path)))
    assert done.returncode == 0, done.stdout + done.stderr
    (queued,) = mail_home.queued()
    assert queued.envelope.endswith(b"\0Fa@b.c\0Tj@example.org\0")
    assert bodies(mail_home)[0].rstrip(b"\n").endswith(TEXT.encode().rstrip())


def test_smtplib_sends_many_messages_in_a_session(mail_home: MailHome, port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        for number in range(5):
            client.sendmail("a@b.c", ["j@example.org", f"k{number}@example.org"], f"{TEXT}{number}\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@b.c", ["j@else.where"], TEXT)
    assert len(mail_home.queued()) == 5
    assert all(body.startswith(TEXT.encode()) for body in bodies(mail_home))


@pytest.mark.skipif(not shutil.which("smtp-source"), reason="smtp-source (postfix) is not installed")
@pytest.mark.parametrize("options", [(), ("-d",)], ids=["a message a session", "many messages a session"])
def test_many_sessions_at_once(mail_home: MailHome, port: int, options: tuple[str, ...]) -> None:
    where = f"inet:127.0.0.1:{port}"
    argv = [
        "smtp-source",
        *options,
        "-s",
        "10",
        "-m",
        "100",
        "-l",
        "2048",
        "-f",
        "a@b.c",
        "-t",
        "j@example.org",
    ]
    done = run(*argv, where, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(mail_home.queued()) == 100
    assert {len(body) > 2000 for body in bodies(mail_home)} == {True}


class Wire:
    """A client that sends just what it is told to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.replies = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        assert self.replies.readline().startswith(b"220 ")
        return self

    def __exit__(self, *_: object) -> None:
        self.replies.close()
        self.socket.close()

    def ask(self, data: bytes) -> bytes:
        """Send `data` and return the next reply."""
        self.socket.sendall(data)
        return self.replies.readline()

    def begin(self) -> None:
        """Get as far as the message."""
        assert self.ask(b"MAIL FROM:<a@b.c>\r\n") == b"250 ok\r\n"
        assert self.ask(b"RCPT TO:<j@example.org>\r\n") == b"250 ok\r\n"
        assert self.ask(b"DATA\r\n") == b"354 go ahead\r\n"


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_client_that_vanishes_leaves_nothing(mail_home: MailHome, port: int, size: int) -> None:
    for _ in range(25):  # more than there are workers
        with Wire(port) as wire:
            wire.begin()
            wire.socket.sendall(b"x" * size)
    with Wire(port) as wire:
        wire.begin()
        assert wire.ask(b"whole\r\n.\r\n").startswith(b"250 ok ")
    eventually(lambda: len(mail_home.files()) == 3, "only the whole message is there")
    assert bodies(mail_home) == [b"whole\n"]


def test_trouble_with_the_queue_is_for_now_and_passes(mail_home: MailHome, port: int) -> None:
    queue = mail_home.path / "queue"
    with Wire(port) as wire:
        queue.rename(mail_home.path / "away")
        wire.begin()
        assert wire.ask(b"x\r\n.\r\n") == b"451 qq trouble creating files in queue (#4.3.0)\r\n"
        (mail_home.path / "away").rename(queue)
        wire.begin()
        assert wire.ask(b"x\r\n.\r\n").startswith(b"250 ok ")
    assert len(mail_home.queued()) == 1


@pytest.fixture
def small_disk(mail_home: MailHome) -> Iterator[Path]:
    """The queue on a file system of 256 kB."""
    queue = mail_home.path / "queue"
    shutil.copytree(
        queue, mail_home.path / "copy", ignore=lambda _, names: [n for n in names if n == "trigger"]
    )
    mounted = run("mount", "-t", "tmpfs", "-o", "size=256k,mode=750", "tmpfs", queue)
    if mounted.returncode:  # a container that may not mount
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode()}")
    try:
        shutil.copytree(mail_home.path / "copy", queue, dirs_exist_ok=True)
        yield queue
    finally:
        assert run("umount", "-l", queue).returncode == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_refused_for_now_and_leaves_nothing(mail_home: MailHome, port: int) -> None:
    accepted = 0
    with Wire(port) as wire:
        wire.begin()
        assert wire.ask(b"x" * 500_000 + b"\r\n.\r\n") == b"451 qq write error or disk full (#4.3.0)\r\n"
        assert mail_home.files() == []
        while True:
            wire.begin()
            reply = wire.ask(b"x" * 10_000 + b"\r\n.\r\n")
            if not reply.startswith(b"250 ok "):
                break
            accepted += 1
            assert accepted < 100
    assert reply.startswith(b"451 qq ")
    assert len(mail_home.queued()) == accepted > 3
    assert len(mail_home.files()) == 3 * accepted


@needs_strace
def test_accepted_is_said_after_all_is_on_disk(mail_home: MailHome) -> None:
    wire = b"MAIL FROM:<a@b.c>\r\nRCPT TO:<j@example.org>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
    trace = mail_home.path / "trace"
    strace = (
        "strace",
        "-f",
        "-y",
        "-qq",
        "-o",
        trace,
        "-e",
        "trace=fsync,link,linkat,write,execve,fork,clone,vfork",
    )
    done = run(*strace, BIN / "qmail-smtpd", stdin=wire, env=mail_home.environment())
    assert b"\r\n250 ok " in done.stdout
    calls = trace.read_text()
    order = [
        r"linkat\(",
        r"fsync\(\d+<[^>]*/mess/\d+>",
        r"link\(.*/intd/",
        r"fsync\(\d+<[^>]*/todo>",
        r'write\(1<.*"250 ok \d',
    ]
    places = [match.start() if (match := re.search(pattern, calls)) else -1 for pattern in order]
    assert -1 not in places
    assert places == sorted(places)
    assert not re.search(r"(fork|clone|clone3)\(", calls)
    assert len(re.findall(r"execve\(.* = 0$", calls, re.MULTILINE)) == 1  # of qmail-smtpd itself


def peak_memory(pid: int) -> int:
    """Bytes that a process has had resident at most."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@contextlib.contextmanager
def smtpd(mail_home: MailHome, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A qmail-smtpd of one's own, on two pipes, that has greeted."""
    with running("qmail-smtpd", env=mail_home.environment(**env), stdin=-1, stdout=-1) as started:
        assert started.stdin
        assert started.stdout
        assert started.stdout.readline().startswith(b"220 ")
        yield started


def converse(process: subprocess.Popen[bytes], data: bytes) -> bytes:
    assert process.stdin
    assert process.stdout
    process.stdin.write(data)
    process.stdin.flush()
    return process.stdout.readline()


@pytest.mark.parametrize(
    ("megabytes", "databytes", "reply"), [(1024, 1_000_000, b"552 sorry, "), (64, 0, b"250 ok ")]
)
def test_a_line_without_end_needs_little_memory(
    mail_home: MailHome, megabytes: int, databytes: int, reply: bytes
) -> None:
    with smtpd(mail_home, DATABYTES=str(databytes)) as process:
        before = peak_memory(process.pid)
        converse(process, b"MAIL FROM:<a@b.c>\r\n")
        converse(process, b"RCPT TO:<j@example.org>\r\n")
        assert converse(process, b"DATA\r\n") == b"354 go ahead\r\n"
        assert process.stdin
        for _ in range(megabytes):
            process.stdin.write(b"x" * MEGABYTE)
        assert converse(process, b"\r\n.\r\n").startswith(reply)
        assert peak_memory(process.pid) - before < 8 * MEGABYTE
    sizes = [len(queued.message) > megabytes * MEGABYTE for queued in mail_home.queued()]
    assert sizes == ([] if databytes else [True])


def test_a_command_without_end_is_cut_off(mail_home: MailHome) -> None:
    with smtpd(mail_home) as process:
        assert process.stdin
        assert process.stdout
        sent = 0
        with contextlib.suppress(BrokenPipeError):
            while sent < 1024:
                process.stdin.write(b"x" * MEGABYTE)
                sent += 1
        assert process.stdout.readline() == b"421 out of memory (#4.3.0)\r\n"
        assert sent < 16
        assert process.wait(60) == 1


def test_a_million_recipients_cost_what_they_are_long(mail_home: MailHome) -> None:
    with smtpd(mail_home) as process:
        before = peak_memory(process.pid)
        assert converse(process, b"MAIL FROM:<a@b.c>\r\n") == b"250 ok\r\n"
        assert process.stdin
        assert process.stdout
        for _ in range(1000):
            process.stdin.write(b"RCPT TO:<j@example.org>\r\n" * 1000)
            process.stdin.flush()
            assert process.stdout.read(8000) == b"250 ok\r\n" * 1000
        assert converse(process, b"DATA\r\n") == b"354 go ahead\r\n"
        assert converse(process, b".\r\n").startswith(b"250 ok ")
        assert peak_memory(process.pid) - before < 64 * MEGABYTE
    assert mail_home.queued()[0].envelope.count(b"T") == 1_000_000


def test_out_of_memory_is_421(mail_home: MailHome) -> None:
    with smtpd(mail_home) as process:
        assert converse(process, b"MAIL FROM:<a@b.c>\r\n") == b"250 ok\r\n"
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (64 * MEGABYTE, 64 * MEGABYTE))
        assert process.stdin
        assert process.stdout
        command = b"RCPT TO:<%b@example.org>\r\n" % (b"x" * 800)
        replies = b"250 ok\r\n"
        while replies.endswith(b"250 ok\r\n"):
            process.stdin.write(command * 10)
            process.stdin.flush()
            replies = b"".join(process.stdout.readline() for _ in range(10))
        assert replies.endswith(b"421 out of memory (#4.3.0)\r\n")
        assert process.wait(30) == 1
    assert mail_home.files() == []
