"""The front end of qmail-smtpd, qmail-qmtpd, qmail-qmqpd: session, connection and queue together."""

from __future__ import annotations

import os
import signal
import time

from qmail.queueing import enqueue
from qmail.receiving.incoming import Begin, Body, Close, End, NeedInput
from qmail.receiving.received import in_local_time
from ucspi import timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmail.queueing.enqueue import Message
    from qmail.receiving.incoming import Session
    from qmail.receiving.received import Peer
    from ucspi.timed import Stream

READ = 64 * 1024  # bytes


class Reception:
    """A session with its connection and its way to the queue."""

    def __init__(self, mail_home: str, stream: Stream, peer: Peer, session: Session, gone: int) -> None:
        """`gone`: the exit code for a client that does not listen any more."""
        self._home = mail_home
        self._stream = stream
        self._peer = peer
        self._session = session
        self._gone = gone
        self._message: Message | None = None

    def run(self) -> int:
        """Hold the session to its end, in the mail home, where neither a pipe nor a limit on files kills.

        Returns the exit code.  OSError: there is no mail home.
        """
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.chdir(self._home)
        try:
            try:
                return self._serve()
            except MemoryError as error:
                self._session.fail(error)
                return self._serve()  # to say so and close
        except (OSError, MemoryError):  # the client does not listen any more, or nothing can be said
            return self._gone
        finally:
            if self._message:
                self._message.abandon()

    def _serve(self) -> int:
        code = None
        while code is None:
            code = self._step()
        return code

    def _step(self) -> int | None:
        session = self._session
        try:
            event = session.next_event()
        except OSError as error:
            session.fail(error)
            return None
        match event:
            case NeedInput():
                self._flush()
                self._receive()
            case Body(data):
                assert self._message
                self._message.write(data)
            case Begin(helo):
                self._begin(helo)
            case End():
                self._flush()
                self._end(event)
            case Close(code):
                self._flush()
                return code
        return None

    def _flush(self) -> None:
        while replies := self._session.take_replies():
            self._stream.write(replies)

    def _receive(self) -> None:
        try:
            self._session.receive(self._stream.read(READ))
        except TimeoutError:
            self._session.time_out()

    def _begin(self, helo: bytes | None) -> None:
        try:
            self._message = enqueue.open_message(self._home)
        except OSError:
            self._session.begun(opened=False)
            return
        local_time = in_local_time(self._home)
        line = self._peer.received(self._session.protocol, int(time.time()), helo, local_time)
        self._message.write(line)
        self._session.begun(opened=True)

    def _end(self, end: End) -> None:
        message, self._message = self._message, None
        assert message
        if end.refused:
            message.fail()
        verdict = message.commit(end.envelope)
        self._session.ended(verdict, message.number, int(time.time()))


class Lifetime:
    """Descriptors 0 and 1 as a stream that times out `seconds` from now, whatever the client does."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def read(self, size: int) -> bytes:
        return timed.read_until(0, size, self._deadline)

    def write(self, data: bytes) -> None:
        timed.write(1, data, self._deadline - time.monotonic())
