"""svok(8): is supervise running in a service directory?

SYNOPSIS   svok dir
EXIT       0: yes.  100: no.  111: it cannot tell.
FILES      dir/supervise/ok, a fifo that supervise holds open for reading
"""

from __future__ import annotations

import os

from supervise.program import PERMANENT, Usage, program, unable_to
from supervise.status import supervised

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("svok")
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("svok dir")
    service = argv[0]
    with unable_to(f"chdir to {service}"):
        os.chdir(service)
    with unable_to(f"open {service}/supervise/ok"):
        try:
            return 0 if supervised() else PERMANENT
        except FileNotFoundError:
            return PERMANENT
