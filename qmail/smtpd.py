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

from qmail import home
from qmail.control import Controls
from qmail.receiving.received import Peer
from qmail.receiving.reception import Reception
from qmail.smtp.policy import TIMEOUT, NoGreeting, Policy
from qmail.smtp.session import NO_CONTROLS, Session
from supervise.program import program
from ucspi.timed import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def prepare(_: Sequence[str]) -> Callable[[], int]:
    """Read the control files; return the conversation that is to follow."""
    try:
        where = home.find()
        policy = Policy.load(Controls.of(where), os.environb)
    except (OSError, NoGreeting):
        return refuse
    peer = Peer(os.environb)
    session = Session(policy, peer.host)
    reception = Reception(where, Channel(0, 1, policy.timeout), peer, session, gone=1)
    return lambda: converse(reception)


@program("qmail-smtpd", prepare=prepare)
def main(argv: Sequence[str]) -> int:
    return prepare(argv)()


def converse(reception: Reception) -> int:
    """Hold the session; return the exit code."""
    try:
        return reception.run()
    except OSError:  # no home
        return refuse()


def refuse() -> int:
    """Tell the client that there is trouble here; return the exit code."""
    try:
        Channel(0, 1, TIMEOUT).write(NO_CONTROLS)
    except OSError:  # it has gone
        pass
    return 1
