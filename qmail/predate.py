"""predate(1): puts a Date line before a message and feeds it to a program.

SYNOPSIS
predate child [ arg ... ]

DESCRIPTION
predate runs child, and feeds it a Date field of the present time in the local
time zone, and then its own standard input.

ENVIRONMENT
  TZ  the local time zone

EXIT
That of child; 100: wrong usage; 111: trouble, or child crashed.
"""

from __future__ import annotations

import time

from qmail import dates, piped
from supervise import chain
from supervise.program import Usage, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms


@program("predate")
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if not argv:
        raise Usage("predate child")
    pipe = piped.Pipe("predate", argv, chain.unable_to_run)
    try:
        piped.copy(pipe, b"Date: %b\n" % dates.rfc822(time.time(), local=True))
        return pipe.wait()
    finally:
        pipe.close()
