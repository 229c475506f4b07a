"""qmail-smtpd(8): receive mail by SMTP.

SYNOPSIS
    qmail-smtpd

DESCRIPTION
    Speaks SMTP on descriptors 0 and 1, usually to a client that tcpserver
    accepted, and hands each message to qmail-queue, or to $QMAILQUEUE.  What
    is reported as accepted is on disk.

    Lines of a message end in CR LF, and it ends in CR LF "." CR LF: nothing
    else.  A bare LF is answered with 451 and the end of the connection.  A
    message with 100 Received or Delivered-To fields is looping and refused.

EXIT
    0: after QUIT.  1: the client went, said nothing for too long, or broke the
    rules; or there was trouble, which was answered with 421.

FILES
    In HOME/control:
    smtpgreeting, else me: the name in greeting and replies.
    rcpthosts, morercpthosts.cdb: the hosts whose mail is taken; all without rcpthosts.
    badmailfrom: senders, or @hosts, whose mail is refused.
    databytes: the largest message in bytes; 0: no limit.
    localiphost, else me: what stands for this machine's IP address in brackets.
    timeoutsmtpd: seconds to wait for the client; default 1200.

ENVIRONMENT
    TCPREMOTEIP, TCPREMOTEHOST, TCPREMOTEINFO, TCPLOCALHOST, TCPLOCALIP: for Received.
    RELAYCLIENT: set, any recipient is taken, and this is appended to it.
    DATABYTES: in place of control/databytes.
    QMAILQUEUE: in place of bin/qmail-queue.
    QMAILHOME, QMAIL_CONTROLDIR: where the mail system is.
"""

from __future__ import annotations

import os
import signal
import time

from qmail import enqueue, home
from qmail.control import Controls
from qmail.received import Peer
from qmail.smtp.policy import TIMEOUT, NoGreeting, Policy
from qmail.smtp.session import Begin, Body, Close, End, NeedInput, Session
from supervise.program import program
from ucspi.timed import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmail.enqueue import Message
    from ucspi.timed import Stream

READ = 64 * 1024  # bytes
NO_CONTROLS = b"421 unable to read controls (#4.3.0)\r\n"


@program("qmail-smtpd")
def main(_: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    where = home.find()
    environment = dict(os.environb)
    try:
        os.chdir(where)
        policy = Policy.load(Controls.of(where), environment)
    except (OSError, NoGreeting):
        return refuse()
    peer = Peer(environment)
    return Service(where, Channel(0, 1, policy.timeout), peer, Session(policy, peer.host)).run()


def refuse() -> int:
    """Tell the client that there is trouble here; return the exit code."""
    try:
        Channel(0, 1, TIMEOUT).write(NO_CONTROLS)
    except OSError:  # it has gone
        pass
    return 1


class Service:
    """A session with its connection and its way to the queue."""

    def __init__(self, mail_home: str, stream: Stream, peer: Peer, session: Session) -> None:
        self._home = mail_home
        self._stream = stream
        self._peer = peer
        self._session = session
        self._message: Message | None = None

    def run(self) -> int:
        """Hold the session; return the exit code."""
        try:
            while True:
                code = self._step()
                if code is not None:
                    return code
        except OSError:  # the client does not listen any more
            return 1
        finally:
            if self._message:
                self._message.abandon()

    def _step(self) -> int | None:
        session = self._session
        try:
            event = session.next_event()
        except OSError:  # morercpthosts.cdb
            session.fail(NO_CONTROLS)
            return None
        match event:
            case NeedInput():
                self._flush()
                self._receive()
            case Begin(helo):
                self._begin(helo)
            case Body(data):
                assert self._message
                self._message.write(data)
            case End():
                self._flush()
                self._end(event)
            case Close(code):
                self._flush()
                return code
        return None

    def _flush(self) -> None:
        replies = self._session.take_replies()
        if replies:
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
        self._message.write(self._peer.received(b"SMTP", int(time.time()), helo))
        self._session.begun(opened=True)

    def _end(self, end: End) -> None:
        message, self._message = self._message, None
        assert message
        if end.refused:
            message.fail()
        verdict = message.commit(end.envelope)
        self._session.ended(verdict, message.number, int(time.time()))
