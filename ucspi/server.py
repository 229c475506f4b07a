"""The accepting side of a server: one loop that hands each connection to a process and counts.

It never waits for a client or a name server.  What is done with a connection
is the Service's affair, in a process of its own: in a worker that does one
after another, or in a child for each.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import time
from functools import partial

from supervise import chain, children, descriptors
from supervise.errors import reason
from supervise.program import Become
from supervise.signals import SignalPipe
from supervise.workers import Birth, Surroundings, Worker
from ucspi import addresses
from ucspi.connection import UNIX_ADDRESS, Arrival, Policy
from ucspi.listeners import local_end
from ucspi.verbosity import ERRORS, EVERYTHING
from ucspi.visitors import Visitors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from typing import Protocol

    class Service(Protocol):
        """What a server does with its connections."""

        @property
        def reusable(self) -> bool:
            """Whether a process that has served may serve the next one."""

        def serve(self, arrival: Arrival) -> int:
            """In a process of its own: serve the socket, which is descriptors 0 and 1.

            Returns the exit code, or raises Become.
            """

        def start(self, sock: socket.socket, arrival: Arrival) -> int | None:
            """In the server: start a program at once and return its pid; None if `serve` must do it."""

        def ready(self, sock: socket.socket, arrival: Arrival) -> Ready:
            """In the server, if it is reusable: make ready for a process to serve `sock`."""

        def reload(self) -> None:
            """Read again whatever is kept of the disk."""


CAUGHT = (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE)  # even if they are ignored
ORDERS = (signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1)  # unless they are ignored
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE = 1.0  # seconds without accepting after something ran out
BATCH = 16  # connections accepted before workers are looked at again
MOST_JOBS = 2000  # of one worker; then a fresh one
MOST_IDLE = 64  # workers; one that finishes beyond them goes
LIMITS = [number for name, number in vars(resource).items() if name.startswith("RLIMIT_")]
NO_ADDRESS = b""  # of a client of a Unix socket


def caught() -> list[signal.Signals]:
    """The signals for `Server.run`.  Programs have the default action of each.

    An order that is ignored, as by nohup, stays so, for programs too.
    """
    return [*CAUGHT, *(order for order in ORDERS if signal.getsignal(order) != signal.SIG_IGN)]


class Ready:
    """What a process that is still to be forked will do with its connection.

    run: in the process, of which the connection is descriptors 0 and 1, does
    what `serve` does.  admitted: in the server, logs the process, if `run` does not.
    """

    __slots__ = ("admitted", "run")

    def __init__(self, run: Callable[[], int], admitted: Callable[[int], None] | None = None) -> None:
        self.run = run
        self.admitted = admitted


class Guest:
    """A connection under way, `since` a time of time.monotonic()."""

    __slots__ = ("arrival", "since")

    def __init__(self, arrival: Arrival, since: float) -> None:
        self.arrival = arrival
        self.since = since


class Newcomer:
    """A connection that no process has yet."""

    __slots__ = ("guest", "sock")

    def __init__(self, sock: socket.socket, guest: Guest) -> None:
        self.sock = sock
        self.guest = guest


class Server:
    """Accepts on `listeners` until SIGTERM, at most `limit` connections at a time."""

    def __init__(
        self, listeners: Sequence[socket.socket], service: Service, policy: Policy, limit: int
    ) -> None:
        self._listeners = {sock.fileno(): sock for sock in listeners}
        self._ends = {sock.fileno(): local_end(sock) for sock in listeners}
        self._service = service
        self._policy = policy
        self._limit = limit
        self._guests: dict[int, Guest] = {}  # by process
        self._visitors = Visitors()
        self._workers: dict[int, Worker] = {}  # by the descriptor that they report on
        self._idle: list[Worker] = []
        self._stale: set[int] = set()  # pids of workers that shall not be used again
        self._rights = _rights()
        self._surroundings = Surroundings()  # of a worker
        self._poll = select.epoll()
        self._listening = False
        self._resume = 0.0  # time.monotonic() until when it pauses

    def run(self, signals: SignalPipe) -> int:
        """Serve until TERM arrives.  `signals`: those `caught`, from before anyone may know of it."""
        try:
            with self._poll:
                return self._run(signals)
        finally:
            self._surroundings.close()

    def _run(self, signals: SignalPipe) -> int:
        self._poll.register(signals.fileno(), select.EPOLLIN)
        self._log_status(0)
        while True:
            self._listen_or_not()
            ready = [fd for fd, _ in self._poll.poll(self._patience())]
            # Listeners last: a new worker may get the descriptor of one that was dismissed just now.
            for fd in sorted(ready, key=self._listeners.__contains__):
                if fd in self._workers:
                    self._hear(self._workers[fd])
                elif fd in self._listeners:
                    self._accept(fd)
                elif self._obey(signals.arrived()):
                    return 0

    def _patience(self) -> float | None:
        return max(0.0, self._resume - time.monotonic()) if self._resume else None

    def _listen_or_not(self) -> None:
        """Look at the listeners only while a connection could be taken."""
        if self._resume and time.monotonic() >= self._resume:
            self._resume = 0.0
        wanted = len(self._guests) < self._limit and not self._resume
        if wanted == self._listening:
            return
        self._listening = wanted
        for fd in self._listeners:
            if wanted:
                self._poll.register(fd, select.EPOLLIN)
            else:
                self._poll.unregister(fd)

    def _pause(self) -> None:
        self._resume = time.monotonic() + PAUSE

    # Arriving

    def _accept(self, listener: int) -> None:
        waiting: list[Newcomer] = []
        for _ in range(min(BATCH, self._limit - len(self._guests))):
            if self._resume:
                break
            try:
                sock, name = self._listeners[listener].accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._policy.warn(f"unable to accept: {reason(error)}")
                    self._pause()
                continue  # or the client has gone already
            self._log_status(len(self._guests) + len(waiting) + 1)
            newcomer = Newcomer(sock, self._receive(name, self._ends[listener]))
            arrival = newcomer.guest.arrival
            try:
                pid = self._service.start(sock, arrival) or self._delegate(sock.fileno(), arrival)
            except OSError as error:
                self._drop(newcomer, error)
                continue
            if pid:
                sock.close()
                self._guests[pid] = newcomer.guest
            else:
                waiting.append(newcomer)
        if waiting:
            self._hire(waiting)

    def _receive(self, name: object, local: tuple[bytes, int] | None) -> Guest:
        """Count a connection from `name`: what the socket module has for an address, or a Unix socket."""
        now = time.monotonic()
        remote, interface = None, 0
        if isinstance(name, tuple):
            remote = addresses.of_socket_name(name)
            interface = addresses.interface_of_socket_name(name)
        present, recent = self._visitors.arrive(_address(remote), now)
        return Guest(Arrival(remote, local, present, recent, interface), now)

    def _drop(self, newcomer: Newcomer, error: OSError) -> None:
        newcomer.sock.close()
        self._visitors.leave(_address(newcomer.guest.arrival.remote))
        self._policy.warn(f"dropping connection, unable to fork: {reason(error)}")
        self._log_status(len(self._guests))
        self._pause()

    def _delegate(self, fd: int, arrival: Arrival) -> int:
        """Hand the connection to a process, and return its pid; 0: hire one for it.  OSError: no fork."""
        if not self._service.reusable:
            return children.fork(self._policy.program, lambda: self._serve(fd, arrival))
        while self._idle:
            worker = self._idle.pop()
            try:
                worker.assign(arrival.packed(), [fd])
            except OSError:  # it has died; its channel tells as well
                continue
            return worker.pid
        return 0

    def _hire(self, waiting: Sequence[Newcomer]) -> None:
        """Have new workers, born with these connections: in a row, since they share more memory then."""
        births: list[tuple[Newcomer, Ready, Birth]] = []
        for newcomer in waiting:
            ready = self._service.ready(newcomer.sock, newcomer.guest.arrival)
            network = dict.fromkeys((0, 1), newcomer.sock.fileno())
            serve = partial(self._perform, ready.run)
            try:
                births.append((newcomer, ready, Birth(self._work, self._surroundings, serve, network)))
            except OSError as error:
                self._drop(newcomer, error)
        workers, problem = Worker.start_each(self._policy.program, [birth for _, _, birth in births])
        for (newcomer, ready, _), worker in zip(births, workers, strict=False):
            newcomer.sock.close()
            if ready.admitted:
                ready.admitted(worker.pid)
            self._guests[worker.pid] = newcomer.guest
            self._workers[worker.fileno()] = worker
            self._poll.register(worker.fileno(), select.EPOLLIN)
        if problem:
            for newcomer, _, _ in births[len(workers) :]:
                self._drop(newcomer, problem)

    def _work(self, job: bytes, fds: list[int]) -> int:
        """In a worker: serve one more connection."""
        return self._perform(lambda: self._serve(fds[0], Arrival.unpacked(job)))

    def _perform(self, serve: Callable[[], int]) -> int:
        """In a worker: `serve` a connection, and be fit for the next."""
        try:
            code = serve()
        except Become as image:
            code = chain.follow(image, keep=descriptors.OWN)
            if _rights() != self._rights:
                raise SystemExit(code) from None  # fit for nobody else
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # so that the connection ends
        descriptors.arrange({0: null, 1: null})
        os.close(null)
        return code

    def _serve(self, fd: int, arrival: Arrival) -> int:
        """In a process of its own: serve the socket `fd`."""
        os.dup2(fd, 0)
        os.dup2(fd, 1)
        os.close(fd)
        return self._service.serve(arrival)

    # Leaving

    def _hear(self, worker: Worker) -> None:
        code = worker.report()
        if code is None:
            self._dismiss(worker)
            return
        self._end(worker.pid, (code & 255) << 8)
        if worker.jobs >= MOST_JOBS or len(self._idle) >= MOST_IDLE or worker.pid in self._stale:
            self._dismiss(worker)
        else:
            self._idle.append(worker)

    def _dismiss(self, worker: Worker) -> None:
        """Have no more to do with a worker but reap it."""
        self._poll.unregister(worker.fileno())
        del self._workers[worker.fileno()]
        if worker in self._idle:
            self._idle.remove(worker)
        worker.close()

    def _end(self, pid: int, status: int) -> None:
        guest = self._guests.pop(pid, None)
        if guest:  # else an idle worker
            self._visitors.leave(_address(guest.arrival.remote))
            if self._policy.verbosity >= EVERYTHING:  # else not worth the formatting
                self._policy.log(f"end {pid} status {status}")
            self._log_status(len(self._guests))

    # Signals

    def _obey(self, arrived: set[int]) -> bool:
        """Do what the signals ask for; True: end."""
        if signal.SIGCHLD in arrived:
            self._reap()
        if signal.SIGHUP in arrived:
            self._reload()
        if arrived & {signal.SIGALRM, signal.SIGUSR1}:
            self._list()
        return signal.SIGTERM in arrived

    def _reap(self) -> None:
        for pid, status in children.ended():
            self._stale.discard(pid)
            for worker in [worker for worker in self._workers.values() if worker.pid == pid]:
                self._dismiss(worker)  # a child of its own may still hold the channel
            self._end(pid, status)

    def _reload(self) -> None:
        self._service.reload()
        self._visitors.forget()
        self._stale.update(worker.pid for worker in self._workers.values())
        for worker in list(self._idle):
            self._dismiss(worker)

    def _list(self) -> None:
        now = time.monotonic()
        for pid, guest in sorted(self._guests.items(), key=lambda item: item[1].since):
            remote = guest.arrival.remote
            who = f"{addresses.text(remote[0])}:{remote[1]}" if remote else UNIX_ADDRESS
            self._policy.log(f"connection {pid} from {who} for {now - guest.since:.0f} seconds", ERRORS)
        self._policy.log(f"status: {len(self._guests)}/{self._limit}", ERRORS)

    def _log_status(self, count: int) -> None:
        if self._policy.verbosity >= EVERYTHING:
            self._policy.log(f"status: {count}/{self._limit}")


def _address(remote: tuple[bytes, int] | None) -> bytes:
    """The address by which a client is counted."""
    return remote[0] if remote else NO_ADDRESS


def _rights() -> tuple[object, ...]:
    """What a program may have taken away from its process for good: user, groups, limits."""
    limits = [resource.getrlimit(number) for number in LIMITS]
    return os.getresuid(), os.getresgid(), os.getgroups(), limits
