"""except(1): turns a program's exit code round.

SYNOPSIS
in .qmail: |except program [ arg ... ]

EXIT
100: the program exited 0.  0: it exited with any other code.  111: it exited
111 or crashed.
"""

from __future__ import annotations

from qmail.local_delivery import condition
from supervise.program import PERMANENT, Usage, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("except")
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("except program [ arg ... ]")
    return PERMANENT if condition.holds("except", argv) else 0
