"""tcpcat(1): print what a server says.

SYNOPSIS   tcpcat [ host [ port ] ]
EXIT       0: the server has ended.  111: no connection, or printing failed.

Connects to port 17 (default) of host (default: this machine) and copies to
descriptor 1 whatever comes.
"""

from __future__ import annotations

from supervise.program import TEMPORARY, program
from ucspi import filtering, tcpclient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("tcpcat")
def main(argv: Sequence[str]) -> int:
    host = argv[0] if argv else "0"
    port = argv[1] if len(argv) > 1 else "17"
    return tcpclient.connected(["-RHl0", "--", host, port], _copy)


def _copy() -> int:
    try:
        filtering.copy(6, 1, bytes)
    except OSError:
        return TEMPORARY
    return 0
