"""forward(1): forwards a message to other addresses.

SYNOPSIS
in .qmail: |forward address ...

DESCRIPTION
forward queues the message on standard input for each address, with the
Delivered-To line DTLINE before it.  Its addresses are taken as they are: no
shell needs to quote what comes from outside, and the number of addresses is
that of the arguments.

ENVIRONMENT
  NEWSENDER  the envelope sender
  DTLINE     the Delivered-To line, with its newline
  QMAILQUEUE a program to run in place of bin/qmail-queue

EXIT
0: queued.  100: refused.  111: try again later.
"""

from __future__ import annotations

import os

from qmail.local_delivery.redirect import redirect, required
from supervise.program import program, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms


@program("forward", helps=False)
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sender = required("NEWSENDER")
    number = redirect(required("DTLINE"), sender, map(os.fsencode, argv))
    say(f"forward: qp {number}")
    return 0
