"""Reading and writing with a bound on the wait: what SMTP, POP3 and their like do to the network.

A descriptor stays in the mode in which it was inherited, since others may
share it.  A wait that goes on too long raises TimeoutError; every other
failure is the OSError of its system call.
"""

from __future__ import annotations

import errno
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Protocol

    class Stream(Protocol):
        """A conversation's bytes, in the clear (Channel) or under TLS (ucspi.tls.Channel)."""

        def read(self, size: int) -> bytes:
            """Up to `size` bytes as soon as there are any; b"" at the end.  TimeoutError, OSError."""

        def write(self, data: bytes) -> None:
            """All of `data`.  TimeoutError, OSError."""
else:
    import _socket as socket  # the same without enums and selectors, which would cost 6 ms

READABLE = select.POLLIN
WRITABLE = select.POLLOUT
LONGEST = 2_000_000.0  # seconds; what poll and sockets can count
LITTLE = 1024  # bytes; a socket that is writable takes that much at once
PIPE_STEP = 4096  # bytes; Linux's PIPE_BUF: a writable pipe takes that much at once
_ANY = (socket.AF_UNIX, socket.SOCK_STREAM, 0)  # spares the questions; send() does not look at it


class Channel:
    """The two descriptors of a conversation and its timeout in seconds.  It owns neither."""

    __slots__ = ("reads", "timeout", "writes")

    def __init__(self, reads: int, writes: int, timeout: float) -> None:
        self.reads = reads
        self.writes = writes
        self.timeout = timeout

    def read(self, size: int) -> bytes:
        return read(self.reads, size, self.timeout)

    def write(self, data: bytes) -> None:
        write(self.writes, data, self.timeout)


def wait(fd: int, event: int, timeout: float) -> None:
    """Return once `fd` is READABLE or WRITABLE, or broken; TimeoutError after `timeout` seconds."""
    poll = select.poll()
    poll.register(fd, event)
    if not poll.poll(min(max(timeout, 0), LONGEST) * 1000):
        raise TimeoutError(errno.ETIMEDOUT, "timed out")


def read(fd: int, size: int, timeout: float) -> bytes:
    """Up to `size` bytes from `fd` as soon as there are any; b"" at the end of input."""
    while True:
        wait(fd, READABLE, timeout)
        try:
            return os.read(fd, size)
        except BlockingIOError:  # non-blocking, and somebody else was faster
            continue


def read_until(fd: int, size: int, deadline: float) -> bytes:
    """As `read`, but wait no longer than until `deadline`, a time of time.monotonic()."""
    return read(fd, size, deadline - time.monotonic())


def write(fd: int, data: bytes, timeout: float) -> None:
    """Write all of `data` to `fd`; each wait for room is at most `timeout` seconds."""
    if len(data) <= LITTLE:
        _write_in_steps(fd, data, timeout)
        return
    try:
        _send(fd, data, timeout)
    except OSError as error:
        if error.errno != errno.ENOTSOCK:
            raise
        _write_in_steps(fd, data, timeout)


def _send(fd: int, data: bytes, timeout: float) -> None:
    """Write to a socket.  MSG_DONTWAIT: a blocking send of much data would wait for ever."""
    sock = socket.socket(*_ANY, fileno=fd)
    try:
        rest: bytes | memoryview = data
        while True:
            try:
                sent = sock.send(rest, socket.MSG_DONTWAIT)
            except BlockingIOError:
                wait(fd, WRITABLE, timeout)
                continue
            if sent == len(rest):
                return
            rest = memoryview(rest)[sent:]
    finally:
        sock.detach()


def _write_in_steps(fd: int, data: bytes, timeout: float) -> None:
    """Write to a pipe; or to a socket, what it has room for whenever it is writable."""
    rest = memoryview(data)
    while rest:
        wait(fd, WRITABLE, timeout)
        try:
            rest = rest[os.write(fd, rest[:PIPE_STEP]) :]
        except BlockingIOError:  # non-blocking, and somebody else was faster
            continue
