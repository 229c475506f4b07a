"""Handing a message to the queue: what smtpd, inject, forward, local and bounces have in common.

The program to queue with is $QMAILQUEUE, else bin/qmail-queue in the mail
home.  If that is the toolkit's own qmail-queue, the message is queued in this
process, which saves the fork and the pipes; any other program is run as the
originals run it: message on descriptor 0, envelope on 1, a word of its own
on 6, exit code.

    message = enqueue.open_message(mail_home)
    message.write(...)
    verdict = message.commit(envelope.encode(sender, recipients))

`verdict` is b"" if the message is queued, else b"D..." or b"Z...".
"""

from __future__ import annotations

import os
import time

from qmail.queueing import intake, verdicts
from qmail.queueing.envelope import EnvelopeReader
from qmail.queueing.gathering import Gathering
from qmail.queueing.verdicts import BAD_HOME, NOT_RUN, OUT_OF_MEMORY, READ_ERROR, TIMED_OUT, Refused
from supervise import chain, children, descriptors
from supervise.durable import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from qmail.queueing.accept import Entry
    from qmail.queueing.queue_socket import HandOver

    class Message(Protocol):
        """A message on its way to the queue.  End it with `commit` or `abandon`."""

        number: int
        """The process that queues it: the `qp` of the logs."""

        def write(self, data: bytes) -> None:
            """Add to the message.  Trouble shows in `commit`."""

        def fail(self) -> None:
            """It must not be queued, whatever follows."""

        def commit(self, envelope: bytes | bytearray) -> bytes:
            """Queue it with an encoded envelope; return the verdict."""

        def abandon(self) -> None:
            """Give it up."""


PROGRAM = "bin/qmail-queue"
MODULE = "qmail.queue"
LONGEST_WORD = 255  # bytes; on descriptor 6


def open_message(mail_home: str, role: bytes = b"") -> Message:
    """Begin a message.  OSError: no pipe or no fork; the originals say `qqt failure` then.

    `role`: how the Received line is to name this process, where everybody is
    the same user: received.FOR_BOUNCE, ...
    """
    name = os.environ.get("QMAILQUEUE", PROGRAM)
    if chain.own_module(os.path.join(mail_home, name)) == MODULE:
        return OwnQueue(mail_home, role)
    return QueueProgram(mail_home, name)


class OwnQueue:
    """A message that this process queues itself.  Nothing touches the disk before 64 kB or `commit`."""

    def __init__(self, mail_home: str, role: bytes = b"") -> None:
        self.number = os.getpid()
        self._home = mail_home
        self._role = role
        self._started = time.monotonic()
        self._gathering = Gathering()
        self._entry: Entry | HandOver | None = None
        self._code = 0  # why it is not to be queued

    def write(self, data: bytes) -> None:
        if self._code:
            return
        try:
            gathered = self._gathering.add(data)
            if gathered:
                self._put(gathered)
        except Refused as refused:
            self._refuse(refused.code)
        except MemoryError:
            self._refuse(OUT_OF_MEMORY)

    def fail(self) -> None:
        self._refuse(READ_ERROR)

    def commit(self, envelope: bytes | bytearray) -> bytes:
        if not self._code:
            try:
                self._code = self._queue(envelope)
            except Refused as refused:
                self._refuse(refused.code)
            except MemoryError:
                self._refuse(OUT_OF_MEMORY)
        return verdicts.verdict(self._code)

    def abandon(self) -> None:
        self._gathering.take()
        entry, self._entry = self._entry, None
        if entry:
            entry.abandon()

    def _refuse(self, code: int) -> None:
        self._code = self._code or code
        self.abandon()

    def _queue(self, envelope: bytes | bytearray) -> int:
        reader = EnvelopeReader()
        accepted = reader.feed(envelope)
        reader.end()
        if time.monotonic() - self._started > intake.DEATH:
            raise Refused(TIMED_OUT)
        entry = self._put(self._gathering.take())
        entry.end_message()
        with memoryview(envelope) as view:
            entry.write_envelope(view[:accepted])
        self._entry = None  # commit ends it, well or not
        return entry.commit()

    def _put(self, data: bytes) -> Entry | HandOver:
        if not self._entry:
            self._entry = intake.begin(self._home, self._role)
        self._entry.write(data)
        return self._entry


class QueueProgram:
    """A message that another program queues.  SIGPIPE has to be ignored in this process."""

    def __init__(self, mail_home: str, name: str) -> None:
        self._gathering = Gathering()
        self._failed = False
        self._ours: list[int] = []
        theirs: list[int] = []
        try:
            for _ in range(3):
                ends = os.pipe()
                theirs.append(ends[0])
                self._ours.append(ends[1])
            theirs[2], self._ours[2] = self._ours[2], theirs[2]  # its word comes back to us
            self.number = children.fork(os.path.basename(name), lambda: _become(mail_home, name, theirs))
        except OSError:
            self._close(*self._ours)
            raise
        finally:
            self._close(*theirs)

    def write(self, data: bytes) -> None:
        self._send(self._ours[0], self._gathering.add(data))

    def fail(self) -> None:
        self._failed = True

    def commit(self, envelope: bytes | bytearray) -> bytes:
        message, addresses, word = self._ours
        self._ours = []
        self._send(message, self._gathering.take())
        self._close(message)
        self._send(addresses, envelope)
        self._close(addresses)
        said = _read_word(word)
        self._close(word)
        code = children.wait(self.number)
        if code == verdicts.QUEUED and self._failed:
            code = READ_ERROR
        return verdicts.verdict(code, said)

    def abandon(self) -> None:
        if self._ours:
            self._close(*self._ours)
            self._ours = []
            children.wait(self.number)

    def _send(self, fd: int, data: bytes | bytearray) -> None:
        if self._failed or not data:
            return
        try:
            write_all(fd, data)
        except OSError:
            self._failed = True

    @staticmethod
    def _close(*fds: int) -> None:
        for fd in fds:
            os.close(fd)


def _become(mail_home: str, name: str, fds: list[int]) -> int:
    message, addresses, word = fds
    descriptors.arrange({0: message, 1: addresses, 6: word})
    try:
        os.chdir(mail_home)
    except OSError:
        return BAD_HOME
    try:
        chain.run([name if "/" in name else f"./{name}"])  # PATH is not searched
    except OSError:
        return NOT_RUN


def _read_word(fd: int) -> bytes:
    """What the program says on descriptor 6, up to its end or the bound."""
    word = b""
    while len(word) < LONGEST_WORD:
        try:
            data = os.read(fd, LONGEST_WORD - len(word))
        except OSError:
            break
        if not data:
            break
        word += data
    return word.partition(b"\0")[0]
