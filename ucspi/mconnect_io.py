"""mconnect-io(1): carry lines between a person and a server.

SYNOPSIS   mconnect-io
EXIT       0: the server has ended.  111: no fork.

What comes on descriptor 0 goes to 7 with a carriage return before each
newline; what comes on 6 goes to 1 as it is.
"""

from __future__ import annotations

import os

from supervise import children
from supervise.program import program, unable_to
from ucspi import filtering, line_ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms


@program("mconnect-io")
def main(_: Sequence[str]) -> int:
    return talk()


def talk() -> int:
    """Carry lines until descriptor 6 ends."""
    with unable_to("fork"):
        typist = children.fork("mconnect-io", _send_lines)
    old = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        filtering.copy(6, 1, bytes)
    except OSError:  # as good as the end
        pass
    finally:
        signal.signal(signal.SIGPIPE, old)
        os.kill(typist, signal.SIGTERM)
        os.waitpid(typist, 0)
    return 0


def _send_lines() -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        filtering.copy(0, 7, line_ends.with_cr)
    except OSError:
        pass
    return 0
