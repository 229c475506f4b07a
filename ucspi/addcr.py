"""addcr(1): put a carriage return before each newline.

SYNOPSIS   addcr
EXIT       0 at the end of the input.  111: reading or writing failed.
"""

from __future__ import annotations

from supervise.program import TEMPORARY, program
from ucspi import filtering, line_ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("addcr")
def main(_: Sequence[str]) -> int:
    try:
        filtering.copy(0, 1, line_ends.with_cr)
    except OSError:
        return TEMPORARY
    return 0
