"""svok(8): is supervise running in a service directory?

SYNOPSIS   svok dir
EXIT       0: yes.  100: no.  111: it cannot tell.
FILES      dir/supervise/ok, a fifo that supervise holds open for reading
"""

from __future__ import annotations

import errno
import os

from supervise.program import PERMANENT, Usage, program, unable_to

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
        return 0 if _supervised() else PERMANENT


def _supervised() -> bool:
    try:
        os.close(os.open("supervise/ok", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO):  # no fifo, or no reader
            return False
        raise
    return True
