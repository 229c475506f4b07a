"""qmail-queued queues what clients hand over whole, and no client can hold it up or bring it down."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from programs import BIN, eventually, run, running
from queues import MailHome, make_home
from traces import needs_strace

from qmail.queueing import queue_socket
from qmail.queueing.queue_layout import Owners
from qmail.queueing.queue_socket import REQUEST, HandOver, Parcel
from qmail.queueing.verdicts import Refused

ENVELOPE = b"Fa@b.c\0Td@e.f\0"


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / ("a-long-name-" * 8) / "home")  # longer than a socket's name may be


@pytest.fixture
def server(mail_home: MailHome) -> Iterator[int]:
    """The pid of a qmail-queued that is ready."""
    with running("qmail-queued", env=mail_home.environment()) as process:
        eventually(lambda: is_ready(mail_home), "qmail-queued listens")
        yield process.pid


def is_ready(mail_home: MailHome) -> bool:
    try:
        connect(mail_home).close()
    except Refused:
        return False
    return True


def connect(mail_home: MailHome) -> socket.socket:
    channel = queue_socket.connect(str(mail_home.path), 60)
    channel.settimeout(60)
    return channel


def hand_over(mail_home: MailHome, message: bytes, envelope: bytes = ENVELOPE) -> int:
    entry = HandOver(str(mail_home.path), 60)
    entry.write(message)
    entry.end_message()
    entry.write_envelope(envelope)
    return entry.commit()


def send(channel: socket.socket, said: bytes, message: bytes, envelope: bytes) -> None:
    """Send a request with two files."""
    with closing(parcel(message)) as one, closing(parcel(envelope)) as other:
        socket.send_fds(channel, [said], [one.fd, other.fd])


def ask(mail_home: MailHome, said: bytes, fds: list[int]) -> int:
    """The answer to a request of any form."""
    with connect(mail_home) as channel:
        socket.send_fds(channel, [said], fds)
        answer = channel.recv(10)
        assert len(answer) == 1
        return answer[0]


def parcel(content: bytes, sealed: bool = True) -> Parcel:
    made = Parcel()
    made.write(content)
    if sealed:
        made.seal()
    return made


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def when_idle(pid: int) -> int:
    """How many descriptors the server has when the only socket is the one it listens on."""
    eventually(lambda: sockets(pid) == 1, "no client is left")
    return descriptors(pid)


def sockets(pid: int) -> int:
    links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    return sum(link.startswith("socket:") for link in links)


def assert_serves(mail_home: MailHome) -> None:
    before = len(mail_home.queued())
    assert hand_over(mail_home, b"still there\n") == 0
    assert len(mail_home.queued()) == before + 1


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("size", [0, 100, 300_000, 20_000_000])
def test_a_message_is_queued_for_its_sender(mail_home: MailHome, size: int) -> None:
    assert hand_over(mail_home, b"x" * size) == 0
    (queued,) = mail_home.queued()
    line, _, body = queued.message.partition(b"\n")
    assert line.startswith(b"Received: (qmail %d invoked by " % os.getpid())
    assert body == b"x" * size
    assert queued.envelope == b"u%d\0p%d\0" % (os.getuid(), os.getpid()) + ENVELOPE


@pytest.mark.usefixtures("server")
def test_a_bad_envelope_has_qmail_queues_exit_code(mail_home: MailHome) -> None:
    assert hand_over(mail_home, b"x", b"F" + b"a" * 1003) == 11
    assert hand_over(mail_home, b"x", b"Tx\0") == 91
    with connect(mail_home) as channel:
        send(channel, REQUEST, b"x", b"Fa\0")
        assert channel.recv(10) == bytes([54])
    assert mail_home.files() == []


@pytest.mark.usefixtures("server")
def test_many_clients_at_once_are_all_served(mail_home: MailHome) -> None:
    codes: list[int] = []

    def client(number: int) -> None:
        codes.extend(hand_over(mail_home, b"%d of %d\n" % (number, message)) for message in range(10))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == [0] * 200
    bodies = [queued.message.partition(b"\n")[2] for queued in mail_home.queued()]
    assert sorted(bodies) == sorted(b"%d of %d\n" % (n, m) for n in range(20) for m in range(10))


def wrong_descriptors() -> dict[str, list[int]]:
    """Requests that are none, by what is wrong with them."""
    held_open, writing = os.pipe()
    one, other = socket.socketpair()
    good = parcel(b"x").fd
    descriptor, path = tempfile.mkstemp()
    os.close(descriptor)
    only_write = os.open(path, os.O_WRONLY)
    os.unlink(path)
    return {
        "none": [],
        "one": [good],
        "three": [good] * 3,
        "many": [good] * 50,
        "a pipe that is held open": [held_open, writing],
        "sockets": [one.detach(), other.detach()],
        "a device": [os.open("/dev/zero", os.O_RDONLY), good],
        "a directory": [os.open("/", os.O_RDONLY), good],
        "a path only": [os.open("/etc/passwd", os.O_PATH), good],
        "files that cannot be read": [only_write, only_write],
        "an envelope for ever": [good, os.open("/dev/zero", os.O_RDONLY)],
    }


def test_wrong_descriptors_are_refused_and_forgotten(mail_home: MailHome, server: int) -> None:
    before = when_idle(server)
    requests = wrong_descriptors()
    for what, fds in requests.items():
        assert ask(mail_home, REQUEST, fds) != 0, what
    for fd in set().union(*requests.values()):
        os.close(fd)
    for said in (b"", b"x", b"queue 2", b"x" * 5000):
        assert_refused(mail_home, said)
    assert_serves(mail_home)
    assert when_idle(server) == before
    assert len(mail_home.queued()) == 1


def assert_refused(mail_home: MailHome, said: bytes) -> None:
    with connect(mail_home) as channel:
        send(channel, said or b"\0", b"x", b"Fa\0\0")
        assert channel.recv(10) not in (b"\0", b"")


@pytest.mark.usefixtures("server")
def test_a_file_that_its_owner_may_still_change_is_read_by_a_child(mail_home: MailHome) -> None:
    files = closing(parcel(b"unsealed\n", sealed=False)), closing(parcel(ENVELOPE + b"\0", sealed=False))
    with files[0] as message, files[1] as envelope:
        assert ask(mail_home, REQUEST, [message.fd, envelope.fd]) == 0
    assert mail_home.queued()[0].message.endswith(b"unsealed\n")


def test_500_idle_connections_delay_nobody(mail_home: MailHome, server: int) -> None:
    idle = [connect(mail_home) for _ in range(500)]
    try:
        for _ in range(5):
            assert_serves(mail_home)
        assert descriptors(server) < 450
    finally:
        for channel in idle:
            channel.close()
    assert_serves(mail_home)


def test_a_client_that_goes_at_once_is_no_trouble(mail_home: MailHome, server: int) -> None:
    for linger in (0, 1):
        for _ in range(50):
            channel = connect(mail_home)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
            send(channel, REQUEST, b"x", ENVELOPE + b"\0")
            channel.close()
    assert hand_over(mail_home, b"still there\n") == 0
    os.kill(server, 0)


def test_trouble_with_the_disk_is_refused_and_said(mail_home: MailHome) -> None:
    with running("qmail-queued", env=mail_home.environment(), stderr=-1) as process:
        eventually(lambda: is_ready(mail_home), "qmail-queued listens")
        (mail_home.path / "queue/todo").rmdir()
        assert hand_over(mail_home, b"x") == 66
        (mail_home.path / "queue/todo").mkdir()
        assert mail_home.files() == []
        assert_serves(mail_home)
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        said = process.stderr.read()
        assert process.wait(30) == 0
    uid = os.getuid()
    assert said == b"qmail-queued: warning: unable to queue a message of uid %d: exit code 66\n" % uid


@pytest.mark.usefixtures("server")
def test_a_second_one_leaves_the_first_alone(mail_home: MailHome) -> None:
    done = run("qmail-queued", env=mail_home.environment())
    assert done.returncode == 100
    assert (
        done.stderr == b"qmail-queued: fatal: another qmail-queued serves %b\n" % str(mail_home.path).encode()
    )
    assert_serves(mail_home)


def test_one_that_was_killed_is_followed_by_another(mail_home: MailHome) -> None:
    for _ in range(2):
        with running("qmail-queued", env=mail_home.environment()) as process:
            eventually(lambda: is_ready(mail_home), "qmail-queued listens")
            assert_serves(mail_home)
            process.kill()
            assert process.wait(30) == -signal.SIGKILL


def test_a_kill_in_the_middle_loses_nothing_that_was_accepted(mail_home: MailHome) -> None:
    accepted: list[bytes] = []
    stop = threading.Event()

    def client(name: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            body = b"%d of %d\n" % (number, name)
            if hand_over(mail_home, body) == 0:
                accepted.append(body)

    threads = [threading.Thread(target=client, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    try:
        for kills in range(5):
            with running("qmail-queued", env=mail_home.environment()) as process:
                eventually(lambda goal=10 * (kills + 1): len(accepted) >= goal, "mail is accepted")  # type: ignore[misc]
                process.kill()
                process.wait(30)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    queued = [queued.message.partition(b"\n")[2] for queued in mail_home.queued()]
    assert set(accepted) <= set(queued)
    assert all(message.endswith(b"\n") for message in queued)
    assert len(queued) == len(set(queued))


def test_it_ends_with_the_pipe_it_was_given(mail_home: MailHome) -> None:
    with running("qmail-queued", env=mail_home.environment(), stdin=-1) as process:
        eventually(lambda: is_ready(mail_home), "qmail-queued listens")
        assert process.stdin
        process.stdin.close()
        assert process.wait(30) == 0


def test_without_a_server_nobody_waits(mail_home: MailHome) -> None:
    assert hand_over(mail_home, b"x") == 62


def test_a_queue_that_is_none_is_fatal(mail_home: MailHome) -> None:
    for part in (mail_home.path / "queue/mess").iterdir():
        part.rmdir()
    (mail_home.path / "queue/mess").rmdir()
    done = run("qmail-queued", env=mail_home.environment())
    assert done.returncode == 111
    assert done.stderr.endswith(b"/queue: file does not exist\n")


@needs_strace
def test_messages_that_come_together_are_on_disk_before_any_is_answered(mail_home: MailHome) -> None:
    """The server is stopped while they come, so that it finds them all at once."""
    trace = mail_home.path / "trace"
    calls = "fsync,link,sendto,accept4"
    under = ("strace", "-qq", "-y", "-o", str(trace), "-e", f"trace={calls}", "--", "qmail-queued")
    with running(*under, env=mail_home.environment()) as process:
        eventually(lambda: is_ready(mail_home), "qmail-queued listens")
        server = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(server, signal.SIGSTOP)
        channels = [connect(mail_home) for _ in range(5)]
        for channel in channels:
            send(channel, REQUEST, b"x", ENVELOPE + b"\0")
        os.kill(server, signal.SIGCONT)
        assert [channel.recv(10) for channel in channels] == [b"\0"] * 5
        for channel in channels:
            channel.close()
        os.kill(server, signal.SIGTERM)
        process.wait(30)
    lines = trace.read_text().splitlines()
    events = [event for line in lines for event in [event_of(line)] if event]
    assert events == ["synced"] * 15 + ["linked"] * 5 + ["todo synced"] + ["answered"] * 5


def event_of(line: str) -> str:
    if re.search(r"fsync\(\d+<[^>]*/todo>", line):
        return "todo synced"
    if "EPIPE" in line:  # who only asked whether the server is ready
        return ""
    for start, event in (("fsync(", "synced"), ("link(", "linked"), ("sendto(", "answered")):
        if line.startswith(start):
            return event
    return ""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_a_user_who_may_not_write_the_queue_is_named_as_the_kernel_says() -> None:
    """qmailq and a client, by numbers that no account has; nothing is setuid."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        home = make_home(Path(name) / "home", owners=Owners(64011, 64015, 64014, 64010))
        (home.path / "queued").mkdir()
        os.chown(home.path / "queued", 64011, 64010)
        (home.path / "message").write_bytes(b"S: x\n\nb\n")
        (home.path / "envelope").write_bytes(ENVELOPE + b"\0")
        with running(*as_user(64011), BIN / "qmail-queued", env=home.environment()):
            eventually(lambda: is_ready(home), "qmail-queued listens")
            with (
                (home.path / "message").open("rb") as message,
                (home.path / "envelope").open("rb") as envelope,
            ):
                client = subprocess.run(
                    [*as_user(64099), str(BIN / "qmail-queue")], stdin=message, stdout=envelope,
                    env=home.environment(), timeout=60, check=False,
                )  # fmt: skip
        assert client.returncode == 0
        (queued,) = home.queued()
        assert re.match(rb"Received: \(qmail \d+ invoked by uid 64099\); ", queued.message)
        assert re.match(rb"u64099\0p\d+\0F", queued.envelope)
        owners = {(home.path / "queue" / file).stat().st_uid for file in home.files()}
        assert owners == {64011}


def as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", "--regid=64010", "--clear-groups"]
