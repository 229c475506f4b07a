"""fixcrio(1): run a program with a carriage return put before each newline that has none, both ways.

SYNOPSIS   fixcrio program [ arg ... ]
EXIT       that of program.  100: wrong usage.  111: it cannot be run.

What program reads on descriptor 0 and what it writes on 1 is changed; a child
of program copies the data.
"""

from __future__ import annotations

from supervise.program import Usage, program
from ucspi import relay
from ucspi.line_ends import FixedCr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("fixcrio")
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("fixcrio program [ arg ... ]")
    relay.run("fixcrio", argv, FixedCr(), FixedCr())
