"""qmail-queued(8): queue the messages of those who may not write the queue.

SYNOPSIS
    qmail-queued

DESCRIPTION
    Runs as qmailq (in a private instance, as its owner) and takes from
    qmail-queue, and from the programs that queue without it, messages that
    are complete: two files over a Unix socket.  Who the sender is, for the
    Received line, it asks the kernel.  It answers with qmail-queue's exit
    code when the message is on disk.

    One process serves all.  Messages that come at the same time are put on
    disk together.  Nobody can make it wait: small messages are memory that
    its owner has sealed, large ones are read by a child.  When there are too
    many idle connections, the user who has most of them loses his oldest.

    qmail-start runs it, with a pipe on descriptor 0 that closes when qmail-send
    ends; it may have a service of its own instead.  Then, and on TERM, it
    finishes what it has and exits.

EXIT
    0: told to by TERM or the pipe.  100: another one serves this queue.  111: trouble.

FILES
    HOME/queued/socket, HOME/queued/lock; HOME/queue

ENVIRONMENT
    QMAILHOME: the mail home.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import socket
import stat
import time

from qmail import home
from qmail.queueing import queue_socket
from qmail.queueing.accept import Entry, commit, refusing
from qmail.queueing.envelope import EnvelopeReader
from qmail.queueing.queue_clients import Client, Clients
from qmail.queueing.queue_layout import Queue
from qmail.queueing.verdicts import (
    BAD_INTD,
    BAD_MESS,
    BAD_PID,
    BAD_TODO,
    CONNECTION_FAILED,
    OUT_OF_MEMORY,
    READ_ERROR,
    TEMPORARILY_REJECTED,
    WRITE_ERROR,
    Refused,
)
from supervise import children, descriptors
from supervise.errors import reason
from supervise.program import PERMANENT, Fatal, Usage, program, say, unable_to
from supervise.signals import SignalPipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AT_ONCE = 256 * 1024  # bytes; what is larger is read by a child
BATCH = 32  # messages put on disk together
PATIENCE = 30.0  # seconds for a client to send its request
MOST_CLIENTS = 400
MOST_CHILDREN = 64
MOST_CHILDREN_OF_ONE = 16
CHILD_LIFE = 3600  # seconds
DESCRIPTORS = 2 * MOST_CLIENTS + 8 * BATCH
CHUNK = 256 * 1024  # bytes
LIFELINE = 0  # a pipe that nobody writes to, if it is one
OWN_TROUBLE = (OUT_OF_MEMORY, WRITE_ERROR, BAD_PID, BAD_MESS, BAD_INTD, BAD_TODO)  # not the client's


@program("qmail-queued", resident=True)
def main(argv: Sequence[str]) -> int:
    if argv:
        raise Usage("qmail-queued")
    where = home.find()
    os.umask(0o033)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    allow_descriptors(DESCRIPTORS)
    with unable_to(f"read {where}/queue"):
        queue = Queue.recognise(f"{where}/queue")
    with listen(where) as listener, SignalPipe([signal.SIGTERM, signal.SIGCHLD]) as signals:
        Server(queue, listener, signals).run()
    return 0


def listen(where: str) -> socket.socket:
    try:
        return queue_socket.listen(where)
    except BlockingIOError as error:
        raise Fatal(f"another qmail-queued serves {where}", PERMANENT) from error
    except OSError as error:
        raise Fatal(f"unable to listen in {where}/{queue_socket.DIRECTORY}: {reason(error)}") from error


def allow_descriptors(wanted: int) -> None:
    """Have room for `wanted` open files, as far as the hard limit lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class Server:
    """Accepts clients, reads their requests as they come, commits those of a round together."""

    def __init__(self, queue: Queue, listener: socket.socket, signals: SignalPipe) -> None:
        self._queue = queue
        self._listener = listener
        self._signals = signals
        self._clients = Clients()
        self._children: dict[int, int] = {}  # pid: uid
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(signals, selectors.EVENT_READ)
        self._has_lifeline = is_pipe(LIFELINE)
        if self._has_lifeline:
            self._selector.register(LIFELINE, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until TERM."""
        with self._selector:
            while self._round():
                pass

    def _round(self) -> bool:
        ready = [key.fd for key, _ in self._selector.select(PATIENCE if self._clients else None)]
        batch: list[tuple[Client, Entry]] = []
        for fd in ready:
            if fd in self._clients and len(batch) < BATCH:
                client = self._leave(fd)
                entry = self._hear(client)
                if entry:
                    batch.append((client, entry))
        self._commit(batch)
        if self._listener.fileno() in ready:  # last: a new client may get the descriptor of one above
            self._welcome()
        for fd in self._clients.late(time.monotonic() - PATIENCE):
            self._leave(fd).channel.close()
        if self._has_lifeline and LIFELINE in ready:
            return False
        return self._signals.fileno() not in ready or self._notice(self._signals.arrived())

    def _notice(self, arrived: set[int]) -> bool:
        if signal.SIGCHLD in arrived:
            self._reap()
        return signal.SIGTERM not in arrived

    def _reap(self) -> None:
        for pid, _ in children.ended():
            self._children.pop(pid, None)

    def _welcome(self) -> None:
        """Accept who waits; make room if there are too many."""
        for _ in range(BATCH):
            try:
                channel, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors, or the client has gone
                self._make_room(0)
                return
            channel.setblocking(False)
            pid, uid = queue_socket.peer(channel)
            self._clients.add(Client(channel, pid, uid, time.monotonic()))
            self._selector.register(channel, selectors.EVENT_READ)
            self._make_room(MOST_CLIENTS)

    def _make_room(self, most: int) -> None:
        if len(self._clients) > most:
            self._leave(self._clients.one_too_many()).channel.close()

    def _leave(self, fd: int) -> Client:
        self._selector.unregister(fd)
        return self._clients.take(fd)

    def _hear(self, client: Client) -> Entry | None:
        """Take a client's request: an entry for the batch, or None if it was refused, or is a child's."""
        fds: list[int] = []
        try:
            with refusing(CONNECTION_FAILED):
                said, fds, _, _ = socket.recv_fds(client.channel, 64, 3, socket.MSG_CMSG_CLOEXEC)
                message, envelope = request_files(said, fds)
                immediate = is_immediate(message, envelope)
            if immediate:
                return enter(self._queue, client, message, envelope)
            self._delegate(client, message, envelope)
        except Refused as refused:
            answer(client, refused.code)
        finally:
            for fd in fds:
                os.close(fd)
        return None

    def _delegate(self, client: Client, message: int, envelope: int) -> None:
        """Have a child queue what takes time to read; it answers by itself."""
        of_one = sum(uid == client.uid for uid in self._children.values())
        if len(self._children) >= MOST_CHILDREN or of_one >= MOST_CHILDREN_OF_ONE:
            raise Refused(TEMPORARILY_REJECTED)
        with refusing(OUT_OF_MEMORY):
            pid = children.fork("qmail-queued", lambda: self._queue_alone(client, message, envelope))
        self._children[pid] = client.uid
        client.channel.close()

    def _queue_alone(self, client: Client, message: int, envelope: int) -> int:
        descriptors.close_on_exec(keep=[client.channel.fileno(), message, envelope])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        signal.alarm(CHILD_LIFE)  # which ends it
        try:
            code = enter(self._queue, client, message, envelope).commit()
        except Refused as refused:
            code = refused.code
        answer(client, code)
        return 0

    def _commit(self, batch: Sequence[tuple[Client, Entry]]) -> None:
        if batch:
            codes = commit(self._queue, [entry for _, entry in batch])
            for (client, _), code in zip(batch, codes, strict=True):
                answer(client, code)


def is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:  # not even open
        return False


def request_files(said: bytes, fds: Sequence[int]) -> tuple[int, int]:
    """The descriptors of message and envelope.  Refused: it is not a request.  OSError."""
    if said != queue_socket.REQUEST or len(fds) != 2 or not all(map(queue_socket.is_regular, fds)):
        raise Refused(CONNECTION_FAILED)
    message, envelope = fds
    return message, envelope


def is_immediate(*fds: int) -> bool:
    """Can these files be read at once, whoever made them?"""
    return sum(os.fstat(fd).st_size for fd in fds) <= AT_ONCE and all(map(queue_socket.is_sealed, fds))


def enter(queue: Queue, client: Client, message: int, envelope: int) -> Entry:
    """Put the files into the queue, not committed yet.  Raises Refused."""
    entry = Entry(queue, client.pid, client.uid, int(time.time()))
    try:
        for chunk in contents(message):
            entry.write(chunk)
        entry.end_message()
        reader = EnvelopeReader()
        for chunk in contents(envelope):
            entry.write_envelope(memoryview(chunk)[: reader.feed(chunk)])
        reader.end()
    except BaseException:
        entry.abandon()
        raise
    return entry


def contents(fd: int) -> Iterator[bytes]:
    """A file from its beginning, in pieces.  Raises Refused."""
    offset = 0
    while True:
        with refusing(READ_ERROR):
            chunk = os.pread(fd, CHUNK, offset)
        if not chunk:
            return
        offset += len(chunk)
        yield chunk


def answer(client: Client, code: int) -> None:
    """Tell a client how it went, and let it go."""
    if code in OWN_TROUBLE:
        say(f"qmail-queued: warning: unable to queue a message of uid {client.uid}: exit code {code}")
    try:
        client.channel.send(bytes([code]))
    except OSError:  # it has gone
        pass
    client.channel.close()
