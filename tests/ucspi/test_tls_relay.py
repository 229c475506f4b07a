"""Whatever side ends first, and however: all that was said before arrives, and the relay ends."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority, meet, sessions

from ucspi import timed, tls
from ucspi.tls_relay import Relay

MUCH = os.urandom(2_000_000)
Outcome = list[OSError | None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class Stage:
    """A relay at work: the peer's conversation, its socket, and the program's two ends."""

    def __init__(self, authority: Authority, timeout: float) -> None:
        client, server = sessions(authority, authority.issue("a.test"))
        meet(client, server)
        self.socket, network = socket.socketpair()
        self.peer = tls.Channel(timed.Channel(self.socket.fileno(), self.socket.fileno(), 20), client)
        self.reads, to_program = os.pipe()
        from_program, self.writes = os.pipe()
        self.outcome: Outcome = []

        def work() -> None:
            with network:
                try:
                    Relay(server, network.fileno(), to_program, from_program).run(timeout)
                    self.outcome.append(None)
                except OSError as error:
                    self.outcome.append(error)

        self.thread = threading.Thread(target=work)
        self.thread.start()

    def close(self, *fds: str) -> None:
        for name in fds:
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def program_says(self, data: bytes, *then_close: str) -> None:
        timed.write(self.writes, data, 20)
        self.close(*then_close)

    def peer_says_all(self, data: bytes) -> None:
        self.peer.write(data)
        self.peer.close()

    def ended(self) -> OSError | None:
        """Wait for the relay's end."""
        self.thread.join(20)
        assert self.outcome, "the relay has not ended"
        return self.outcome[0]


@contextlib.contextmanager
def stage(authority: Authority, timeout: float = 20) -> Iterator[Stage]:
    one = Stage(authority, timeout)
    try:
        yield one
    finally:
        one.close("reads", "writes")
        one.socket.close()
        one.thread.join(20)


def everything(read: Callable[[int], bytes]) -> bytes:
    got = bytearray()
    while data := read(100_000):
        got += data
    return bytes(got)


def test_a_program_that_writes_much_and_ends(authority: Authority) -> None:
    with stage(authority) as one:
        writer = threading.Thread(target=one.program_says, args=(MUCH, "writes", "reads"))
        writer.start()
        assert everything(one.peer.read) == MUCH
        writer.join()
        assert one.ended() is None


def test_a_peer_that_says_much_and_ends(authority: Authority) -> None:
    with stage(authority) as one:
        writer = threading.Thread(target=one.peer_says_all, args=(MUCH,))
        writer.start()
        assert everything(lambda size: os.read(one.reads, size)) == MUCH
        writer.join()
        os.write(one.writes, b"thanks")
        assert one.peer.read(100) == b"thanks"
        one.close("writes")
        assert one.ended() is None


def test_a_program_that_has_said_all_may_go_on_reading(authority: Authority) -> None:
    with stage(authority) as one:
        os.write(one.writes, b"go on")
        one.close("writes")
        assert one.peer.read(100) == b"go on"
        assert one.peer.read(100) == b""
        one.socket.shutdown(socket.SHUT_WR)
        assert everything(lambda size: os.read(one.reads, size)) == b""
        assert one.ended() is None


def test_a_program_that_is_gone_ends_the_connection_though_the_peer_still_talks(authority: Authority) -> None:
    with stage(authority) as one:
        one.close("reads", "writes")
        with contextlib.suppress(OSError):
            while True:
                one.peer.write(b"x" * 10_000)
        assert one.ended() is None or isinstance(one.ended(), OSError)


def test_a_peer_that_is_gone_without_a_word_ends_the_programs_input(authority: Authority) -> None:
    with stage(authority) as one:
        one.peer.write(b"last words")
        one.socket.close()
        assert everything(lambda size: os.read(one.reads, size)) == b"last words"
        one.close("writes")
        one.ended()


def test_records_that_are_forged_are_an_error_and_reach_nobody(authority: Authority) -> None:
    with stage(authority) as one:
        one.socket.sendall(struct.pack(">BHH", 23, 0x0303, 40) + os.urandom(40))
        assert os.read(one.reads, 100) == b""
        assert isinstance(one.ended(), tls.TlsError)


def test_where_nothing_moves_the_relay_gives_up(authority: Authority) -> None:
    with stage(authority, timeout=0.05) as one:
        assert os.read(one.reads, 100) == b"", "first the program's input ends"
        assert isinstance(one.ended(), TimeoutError)


def test_slow_readers_on_both_sides_lose_nothing(authority: Authority, tmp_path: Path) -> None:
    with stage(authority) as one:
        threads = [
            threading.Thread(target=one.program_says, args=(MUCH, "writes")),
            threading.Thread(target=one.peer.write, args=(MUCH[::-1],)),
        ]
        for thread in threads:
            thread.start()
        got = bytearray()
        while len(got) < len(MUCH) and (data := os.read(one.reads, 1000)):
            got += data
        assert got == MUCH[::-1]
        threads[1].join()
        assert everything(one.peer.read) == MUCH
        threads[0].join()
        one.close("reads")
        assert one.ended() is None
