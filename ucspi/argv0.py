"""argv0(1): run a program under another name.

SYNOPSIS   argv0 realname program [ arg ... ]
EXIT       that of realname.  100: wrong usage.  111: it cannot be run.

The program realname runs with `program` as its argument 0.
"""

from __future__ import annotations

from supervise import chain
from supervise.program import Usage, program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("argv0")
def main(argv: Sequence[str]) -> int:
    if len(argv) < 2:
        raise Usage("argv0 realname program [ arg ... ]")
    with unable_to(f"run {argv[0]}"):
        chain.run(argv[1:], real=argv[0])
