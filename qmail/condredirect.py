"""condredirect(1): redirects a message if a program says so.

SYNOPSIS
in .qmail: |condredirect newaddress program [ arg ... ]

DESCRIPTION
condredirect runs the program, which may read the message from standard
input.  If it exits 0, the message is queued for newaddress, and qmail-local
ignores the rest of .qmail.

ENVIRONMENT
  SENDER     the envelope sender
  DTLINE     the Delivered-To line, with its newline
  QMAILQUEUE a program to run in place of bin/qmail-queue

EXIT
99: redirected.  0: not redirected.  100: refused.  111: the program exited
111 or crashed, or the queue is in trouble; try again later.
"""

from __future__ import annotations

import os

from qmail.local_delivery import condition
from qmail.local_delivery.redirect import redirect, required
from supervise.program import Usage, program, say, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

REDIRECTED = 99


@program("condredirect")
def main(argv: Sequence[str]) -> int:
    if len(argv) < 2:
        raise Usage("condredirect newaddress program [ arg ... ]")
    address, *command = argv
    if not condition.holds("condredirect", command):
        return 0
    with unable_to("rewind"):
        os.lseek(0, 0, os.SEEK_SET)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sender = required("SENDER")
    number = redirect(required("DTLINE"), sender, [os.fsencode(address)])
    say(f"condredirect: qp {number}")
    return REDIRECTED
