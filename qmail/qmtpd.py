"""qmail-qmtpd(8): receive mail by QMTP.

SYNOPSIS
    qmail-qmtpd

DESCRIPTION
    Speaks QMTP on descriptors 0 and 1, usually to a client that tcpserver
    accepted on port 209, and hands each message to qmail-queue, or to
    $QMAILQUEUE.  What is reported as accepted is on disk.

EXIT
    0: the client went.  100: it broke the protocol.  111: trouble, or the
    conversation took more than an hour.

FILES
    In HOME/control: rcpthosts, morercpthosts.cdb, databytes, as for qmail-smtpd.

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
from qmail.receiving.netstring_session import GONE, TROUBLE
from qmail.receiving.qmtp import QmtpSession
from qmail.receiving.rcpthosts import RcptHosts
from qmail.receiving.received import Peer
from qmail.receiving.reception import Lifetime, Reception
from qmail.smtp.policy import databytes
from supervise.program import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LIFETIME = 3600  # seconds


@program("qmail-qmtpd")
def main(_: Sequence[str]) -> int:
    environment = os.environb
    try:
        where = home.find()
        controls = Controls.of(where)
        hosts, limit = RcptHosts(controls), databytes(controls, environment)
        session = QmtpSession(hosts, environment.get(b"RELAYCLIENT"), limit)
        return Reception(where, Lifetime(LIFETIME), Peer(environment), session, GONE).run()
    except OSError:
        return TROUBLE
