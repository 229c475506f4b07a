"""Carry data between a TLS connection and a program that knows nothing of TLS, over two pipes."""

from __future__ import annotations

import errno
import os
import select
import signal

from supervise import children, descriptors
from supervise.program import TEMPORARY
from ucspi.timed import LONGEST
from ucspi.tls import TlsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ucspi.tls import Session

STEP = 65_536  # bytes


class Relay:
    """A connection whose handshake is done, and a program.  It closes the pipes; the network is its caller's.

    network, to_program and from_program are made non-blocking.  No direction reads
    more before it has written what it read.
    """

    def __init__(self, session: Session, network: int, to_program: int, from_program: int) -> None:
        self._session = session
        self._network = network
        self._to_program: int | None = to_program  # None: closed
        self._from_program: int | None = from_program
        self._heard_all = False  # the peer has ended
        self._clear = memoryview(b"")  # for the program
        self._wire = memoryview(b"")  # for the network
        for fd in (network, to_program, from_program):
            os.set_blocking(fd, False)

    def run(self, timeout: float) -> None:
        """Carry until the program has ended its output and takes no more.

        After `timeout` seconds in which nothing moves, the program's input is
        ended; after as much again, TimeoutError.  TlsError, OSError: the
        network is no good any more.
        """
        try:
            self._take(b"", first=True)  # what came together with the handshake
            while self._wire or self._from_program is not None or self._to_program is not None:
                if self._wait(timeout):
                    continue
                if self._to_program is None:
                    raise TimeoutError(errno.ETIMEDOUT, "timed out")
                self._end_input()
        finally:
            self._end_input()
            self._end_output()

    def _wait(self, timeout: float) -> bool:
        """Do what can be done; false: nothing could, for `timeout` seconds."""
        poll = select.poll()
        events = select.POLLOUT if self._wire else 0
        if not (self._clear or self._heard_all or self._to_program is None):
            events |= select.POLLIN
        if events:
            poll.register(self._network, events)
        if self._to_program is not None:  # with nothing to write it still tells that nobody reads
            poll.register(self._to_program, select.POLLOUT if self._clear else 0)
        if self._from_program is not None and not self._wire:
            poll.register(self._from_program, select.POLLIN)
        ready = dict(poll.poll(min(timeout, LONGEST) * 1000))
        if self._network in ready:
            self._meet_network(ready[self._network])
        if self._to_program in ready:
            self._write_to_program(ready[self._to_program])
        if self._from_program in ready:
            self._read_from_program()
        return bool(ready)

    def _meet_network(self, events: int) -> None:
        if self._wire:
            try:
                self._wire = self._wire[os.write(self._network, self._wire[:STEP]) :]
            except BlockingIOError:
                pass
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not (
            self._clear or self._heard_all
        ):
            try:
                self._take(os.read(self._network, STEP))
            except BlockingIOError:
                pass

    def _take(self, wire: bytes, first: bool = False) -> None:
        """Take what came from the network."""
        if not first:
            self._session.feed(wire)
        pieces = []
        try:
            while piece := self._session.read(STEP):
                pieces.append(piece)
        except TlsError:
            if self._from_program is not None:
                raise
            piece = b""  # after our end OpenSSL may refuse what the peer still says
        self._clear = memoryview(b"".join(pieces))
        self._heard_all = piece is not None
        self._wire = memoryview(bytes(self._wire) + self._session.to_send())
        if self._heard_all and not self._clear:
            self._end_input()

    def _write_to_program(self, events: int) -> None:
        if self._to_program is None:
            return
        broken = bool(events & select.POLLERR)
        try:
            if self._clear and not broken:
                self._clear = self._clear[os.write(self._to_program, self._clear) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            broken = True
        if broken:  # it does not want to read any more
            self._clear = memoryview(b"")
        if broken or (self._heard_all and not self._clear):
            self._end_input()

    def _read_from_program(self) -> None:
        if self._from_program is None:
            return
        try:
            data = os.read(self._from_program, STEP)
        except BlockingIOError:
            return
        if data:
            self._session.write(data)
        else:
            self._end_output()
            self._session.close()
        self._wire = memoryview(bytes(self._wire) + self._session.to_send())

    def _end_input(self) -> None:
        if self._to_program is not None:
            os.close(self._to_program)
            self._to_program = None

    def _end_output(self) -> None:
        if self._from_program is not None:
            os.close(self._from_program)
            self._from_program = None


def serve(
    name: str,
    session: Session,
    network: int,
    timeout: float,
    numbers: tuple[int, int],
    run: Callable[[], int],
) -> int:
    """Fork a child that does `run` with the connection on its descriptors `numbers`; carry its data.

    Returns its exit code, 111 if a signal killed it.  OSError: no pipe, no
    fork, or the connection broke; then the child has been waited for.  Every
    descriptor that the child shall not have is close-on-exec.
    """
    inward, outward = os.pipe(), os.pipe()
    ours = (inward[1], outward[0])

    def body() -> int:
        for fd in ours:
            os.close(fd)
        descriptors.arrange(dict(zip(numbers, (inward[0], outward[1]), strict=True)))
        return run()

    try:
        pid = children.fork(name, body)
    except OSError:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        os.close(inward[0])
        os.close(outward[1])
    old = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        Relay(session, network, *ours).run(timeout)
    finally:
        code = children.wait(pid)
        signal.signal(signal.SIGPIPE, old)
    return code if code >= 0 else TEMPORARY
