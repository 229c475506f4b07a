"""mailsubj(1): sends a message with a subject.

SYNOPSIS
mailsubj subject recip ...

DESCRIPTION
mailsubj reads the body of a message from standard input, and gives it with a
Subject and a To field to qmail-inject.  Line ends in the arguments become
spaces, so that none of them can add a field.

ENVIRONMENT
  What qmail-inject reads.

EXIT
That of qmail-inject.
"""

from __future__ import annotations

import os

from qmail import home, piped
from supervise import chain
from supervise.program import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms


@program("mailsubj", helps=False)
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    words = [os.fsencode(word).replace(b"\r", b" ").replace(b"\n", b" ") for word in argv]
    header = b"Subject: %b\nTo: %b\n\n" % (b"".join(words[:1]), b" ".join(words[1:]))
    pipe = piped.Pipe("mailsubj", [f"{home.find()}/bin/qmail-inject"], chain.unable_to_run)
    try:
        piped.copy(pipe, header)
        return pipe.wait()
    finally:
        pipe.close()
