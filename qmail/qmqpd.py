"""qmail-qmqpd(8): receive mail by QMQP, for hosts that have no queue of their own.

SYNOPSIS
    qmail-qmqpd

DESCRIPTION
    Speaks QMQP on descriptors 0 and 1, usually to a client that tcpserver
    accepted on port 628, and hands its message to qmail-queue, or to
    $QMAILQUEUE.  It takes mail for anybody from anybody: whom it serves is
    for the rules of tcpserver to say.

EXIT
    0: the client has its answer, or went.  100: it broke the protocol.
    111: trouble, or it took more than an hour.

ENVIRONMENT
    TCPREMOTEIP, TCPREMOTEHOST, TCPREMOTEINFO, TCPLOCALHOST, TCPLOCALIP: for Received.
    QMAILQUEUE: in place of bin/qmail-queue.
    QMAILHOME: the mail home.
"""

from __future__ import annotations

import os

from qmail import home
from qmail.receiving.netstring_session import GONE, TROUBLE
from qmail.receiving.qmqp import QmqpSession
from qmail.receiving.received import Peer
from qmail.receiving.reception import Lifetime, Reception
from supervise.program import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LIFETIME = 3600  # seconds


@program("qmail-qmqpd")
def main(_: Sequence[str]) -> int:
    try:
        return Reception(home.find(), Lifetime(LIFETIME), Peer(os.environb), QmqpSession(), GONE).run()
    except OSError:
        return TROUBLE
