"""delcr(1): take off one carriage return before each newline.

SYNOPSIS   delcr
EXIT       0 at the end of the input.  111: reading or writing failed.

Every other carriage return stays, also one at the end of a last line that has
no newline.
"""

from __future__ import annotations

from supervise.program import TEMPORARY, program
from ucspi import filtering, line_ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("delcr")
def main(_: Sequence[str]) -> int:
    stream = line_ends.WithoutCr()
    try:
        filtering.copy(0, 1, stream.feed, stream.end)
    except OSError:
        return TEMPORARY
    return 0
