"""mconnect(1): talk to a mail server by hand.

SYNOPSIS   mconnect [ host [ port ] ]
EXIT       0: the server has closed the connection.  111: no connection.

Connects to port 25 (default) of host (default: this machine) and runs
mconnect-io.
"""

from __future__ import annotations

from supervise.program import program
from ucspi import mconnect_io, tcpclient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("mconnect")
def main(argv: Sequence[str]) -> int:
    host = argv[0] if argv else "0"
    port = argv[1] if len(argv) > 1 else "25"
    return tcpclient.connected(["-RHl0", "--", host, port], mconnect_io.talk)
