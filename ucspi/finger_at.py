"""finger@(1): print what a host says of a user.

SYNOPSIS   finger@ [ host [ user ] ]
EXIT       0, also if there was no connection.  111: printing failed.

Connects to port 79 of host (default: this machine).  Without a user the host
says what it likes.  Whatever a terminal would obey is shown as cat -v shows it.
"""

from __future__ import annotations

import os

from supervise.program import program
from ucspi import one_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("finger@")
def main(argv: Sequence[str]) -> int:
    user = argv[1] if len(argv) > 1 else ""
    return one_answer.fetch(argv[0] if argv else "0", "79", os.fsencode(user) + b"\n")
