"""qmail-tcpok(8): forget which remote hosts have timed out, so that they are tried again.

SYNOPSIS   qmail-tcpok
EXIT       0.  111: the table cannot be cleared.
FILES      queue/lock/tcpto
ENVIRONMENT  QMAILHOME
"""

from __future__ import annotations

import os

from qmail import home
from supervise.locks import lock_ex
from supervise.program import program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 1024  # bytes; as in tcpto_table, whose imports would slow this down


@program("qmail-tcpok")
def main(argv: Sequence[str]) -> int:  # noqa: ARG001  (it takes none and, as ever, minds none)
    place = home.find()
    with unable_to(f"chdir to {place}"):
        os.chdir(place)
    with unable_to(f"chdir to {place}/queue/lock"):
        os.chdir("queue/lock")
    table = f"{place}/queue/lock/tcpto"
    with unable_to(f"write {table}"):
        fd = os.open("tcpto", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with unable_to(f"lock {table}"):
            lock_ex(fd)
        with unable_to(f"clear {table}"):
            os.write(fd, bytes(SIZE))
    finally:
        os.close(fd)
    return 0
