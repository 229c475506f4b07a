"""One DNS question on its way: through the servers and rounds, by UDP, and by TCP if the answer is long.

`ucspi.dns` is what programs use.  This is apart because dnspython takes 70 ms
to import: it is imported where a name is looked up, and a server that will
look names up in its children imports this module beforehand.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from ucspi.dns_messages import KINDS, BadName, Question, Reply, Verdict, read_reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ucspi.dns_settings import Name, Server

TCP_TIMEOUT = 10.0  # seconds to connect, and again for the answer
MAX_PACKET = 65_535


class LookupFailed(OSError):
    """The answer is not known: timed out, or no server would say.  It may be known later."""


class ImpossibleName(LookupFailed):
    """The question cannot be asked, now or later: no domain name has that form."""


if TYPE_CHECKING:
    Outcome = tuple[Any, ...] | LookupFailed


def ask(
    questions: Sequence[tuple[Name, str]],
    servers: Sequence[Server],
    udp_timeouts: Sequence[float],
    enough: Callable[[Sequence[Outcome | None]], bool] | None = None,
) -> list[Outcome | None]:
    """The records that answer each (name, kind), all asked at the same time; a failure in its place.

    udp_timeouts: seconds that a server has in each round over the servers.
    enough: looks at the outcomes so far, None where one is open; if true, the
    open ones are given up.
    """
    lookups = [_Lookup(name, kind, servers, udp_timeouts) for name, kind in questions]

    def outcomes() -> list[Outcome | None]:
        return [None if lookup.socket else lookup.outcome for lookup in lookups]

    try:
        for lookup in lookups:
            lookup.start()
        while any(lookup.socket for lookup in lookups) and not (enough and enough(outcomes())):
            _go_on([lookup for lookup in lookups if lookup.socket])
        return outcomes()
    finally:
        for lookup in lookups:
            lookup.close()


def _go_on(waiting: Sequence[_Lookup]) -> None:
    """Wait for what comes first, replies or the end of somebody's patience, and see to it."""
    poll, by_fd = select.poll(), {}
    for lookup in waiting:
        assert lookup.socket
        poll.register(lookup.socket, lookup.events)
        by_fd[lookup.socket.fileno()] = lookup
    pause = min(lookup.deadline for lookup in waiting) - time.monotonic()
    for fd, _ in poll.poll(max(pause, 0) * 1000 + 1):
        by_fd[fd].ready()
    now = time.monotonic()
    for lookup in waiting:
        if lookup.socket and lookup.deadline <= now:
            lookup.timed_out()


class _Lookup:
    """One question.

    After `start`, while `socket` is set, call `ready` when it has one of `events`, or
    `timed_out` when `deadline` has passed.  Then `outcome` is the answer.
    """

    def __init__(
        self, name: Name, kind: str, servers: Sequence[Server], udp_timeouts: Sequence[float]
    ) -> None:
        self._name, self._kind = name, kind
        self._attempts = [(server, timeout) for timeout in udp_timeouts for server in servers]
        self._tcp_servers: list[Server] | None = None  # a list once TCP is in use
        self._servers = servers
        self._edns = True
        self.outcome: Outcome = LookupFailed(errno.EAGAIN, "no server")
        self.socket: socket.socket | None = None
        self.events = select.POLLIN
        self.deadline = 0.0

    def start(self) -> None:
        try:
            self._question = Question.of(self._name, KINDS[self._kind])
        except BadName as error:
            self.outcome = ImpossibleName(errno.EPROTO, str(error))
            return
        self._next()

    def close(self) -> None:
        if self.socket:
            self.socket.close()
            self.socket = None

    def timed_out(self) -> None:
        self.outcome = LookupFailed(errno.ETIMEDOUT, "timed out")
        self._next()

    def ready(self) -> None:
        try:
            reply = self._over_tcp() if self._tcp_servers is not None else self._over_udp()
        except OSError as error:
            self.outcome = LookupFailed(error.errno or errno.EIO, str(error))
            self._next()
            return
        self._take(reply)

    def _next(self) -> None:
        """Ask the next server; with none left `outcome` stands."""
        self.close()
        while not self.socket:
            try:
                if self._tcp_servers is not None:
                    if not self._tcp_servers:
                        return
                    self._connect(self._tcp_servers.pop(0))
                else:
                    if not self._attempts:
                        return
                    self._send(*self._attempts.pop(0))
            except OSError as error:
                self.outcome = LookupFailed(error.errno or errno.EIO, str(error))
                self.close()

    def _send(self, server: Server, timeout: float) -> None:
        self._server, self._timeout = server, timeout
        self._query = self._question.query(int.from_bytes(os.urandom(2), "big"), self._edns)
        self.socket = _open(server, socket.SOCK_DGRAM)
        self.socket.connect(server)  # from a random port, and deaf to everybody else
        self.socket.send(self._query.to_wire())
        self.events, self.deadline = select.POLLIN, time.monotonic() + timeout

    def _over_udp(self) -> Reply:
        assert self.socket
        return read_reply(self.socket.recv(MAX_PACKET), self._query)

    def _connect(self, server: Server) -> None:
        self._query = self._question.query(int.from_bytes(os.urandom(2), "big"), self._edns)
        wire = self._query.to_wire()
        self._unsent, self._received = len(wire).to_bytes(2, "big") + wire, b""
        self.socket = _open(server, socket.SOCK_STREAM)
        self.events, self.deadline = select.POLLOUT, time.monotonic() + TCP_TIMEOUT
        try:
            self.socket.connect(server)
        except BlockingIOError:
            pass

    def _over_tcp(self) -> Reply:
        assert self.socket
        if self._unsent:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
            if not self._unsent:
                self.events, self.deadline = select.POLLIN, time.monotonic() + TCP_TIMEOUT
            return Reply(Verdict.OTHER)
        more = self.socket.recv(MAX_PACKET)
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "answer cut short")
        self._received += more
        length = int.from_bytes(self._received[:2], "big")
        if len(self._received) < 2 or len(self._received) < 2 + length:
            return Reply(Verdict.OTHER)
        reply = read_reply(self._received[2 : 2 + length], self._query)
        return reply if reply.verdict is Verdict.ANSWER else Reply(Verdict.FAILED)

    def _take(self, reply: Reply) -> None:
        if reply.verdict is Verdict.ANSWER:
            self.outcome = reply.records
            self.close()
        elif reply.verdict is Verdict.FAILED:
            self.outcome = LookupFailed(errno.EAGAIN, "server failed")
            self._next()
        elif reply.verdict is Verdict.TRUNCATED:
            self._tcp_servers = [self._server, *(s for s in self._servers if s != self._server)]
            self._next()
        elif reply.verdict is Verdict.NO_EDNS:
            self._edns = False
            self._attempts.insert(0, (self._server, self._timeout))
            self._next()


def _open(server: Server, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, kind)
    sock.setblocking(False)
    return sock
