"""pgrphack(8): run a program in a session and process group of its own.

SYNOPSIS   pgrphack child ...
EXIT       the child's.  100: wrong usage.  111: no child.
"""

from __future__ import annotations

import os

from supervise import chain
from supervise.program import Usage, program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("pgrphack")
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("pgrphack child")
    try:
        os.setsid()
    except OSError:  # it leads a group already, which will have to do
        pass
    with unable_to(f"run {argv[0]}"):
        chain.run(argv)
