"""qmail-tcpto(8): show which remote hosts have timed out lately.

SYNOPSIS   qmail-tcpto
EXIT       0.  111: the table cannot be read.
FILES      queue/lock/tcpto
ENVIRONMENT  QMAILHOME
"""

from __future__ import annotations

import os
import time

from qmail import home
from qmail.remote_delivery import tcpto_table
from supervise.errors import reason
from supervise.locks import lock_ex
from supervise.program import TEMPORARY, program, say
from ucspi import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("qmail-tcpto")
def main(argv: Sequence[str]) -> int:  # noqa: ARG001  (it takes none and, as ever, minds none)
    try:
        step = "chdir"
        os.chdir(f"{home.find()}/queue/lock")
        step = "open tcpto"
        fd = os.open("tcpto", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            step = "lock tcpto"
            lock_ex(fd)
            step = "read tcpto"
            records = tcpto_table.read(fd)
        finally:
            os.close(fd)
    except OSError as error:
        say(f"fatal: unable to {step}: {reason(error)}", 1)
        return TEMPORARY
    now = int(time.time())
    for record in records:
        if record.timeouts:
            say(line(record, now), 1)
    return 0


def line(record: tcpto_table.Record, now: int) -> str:
    """One host's line; an IPv6 host has no more than its digest, as 240/4 tells."""
    ago = (now - record.when) % (1 << 64)
    host = addresses.text(record.address)
    return f"{host} timed out {ago} seconds ago; # recent timeouts: {record.timeouts}"
