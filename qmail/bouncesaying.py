"""bouncesaying(1): bounces a message, perhaps depending on a program.

SYNOPSIS
in .qmail: |bouncesaying error [ program [ arg ... ] ]

DESCRIPTION
bouncesaying prints error and exits 100, so that qmail-local bounces the
message.  If there is a program, it does so only if the program, which may
read the message from standard input, exits 0.

EXIT
100: bounce.  0: go on with the next line of .qmail.  111: the program exited
111 or crashed; try again later.
"""

from __future__ import annotations

from qmail.local_delivery import condition
from supervise.program import PERMANENT, Usage, program, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("bouncesaying", helps=False)
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("bouncesaying error [ program [ arg ... ] ]")
    error, *command = argv
    if command and not condition.holds("bouncesaying", command):
        return 0
    say(error)
    return PERMANENT
