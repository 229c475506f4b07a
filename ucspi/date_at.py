"""date@(1): print the time of a host.

SYNOPSIS   date@ [ host ]
EXIT       0, also if there was no connection.  111: printing failed.

Connects to port 13 of host (default: this machine), whose server says the time there.
Whatever a terminal would obey is shown as cat -v shows it.
"""

from __future__ import annotations

from supervise.program import program
from ucspi import one_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("date@")
def main(argv: Sequence[str]) -> int:
    return one_answer.fetch(argv[0] if argv else "0", "13")
