"""Find the service that a supervise before us has left running when it was killed.

The original starts a second copy beside it, which fights the first for its
port or its lock.  Here the next supervise takes over where the last one was.
"""

from __future__ import annotations

import os
import time

from supervise import status
from supervise.tai import SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervise.status import Status

SLACK = 2.0  # seconds between the start of a process and the record of it, at most


def survivor(directory: str = ".") -> tuple[Status, int] | None:
    """The record of the service in `directory` and a pidfd of it, if it still runs; else None.

    Ask only while holding supervise/lock.  The process is the service's if it
    has the pid of the record, and started when the record says.  The caller
    closes the pidfd, which becomes readable when the process ends.
    """
    try:
        record = status.read(directory)
        if not record.pid:
            return None
        handle = os.pidfd_open(record.pid)
    except (OSError, ValueError, OverflowError):  # no process can have such a pid
        return None
    began = _start_of(record.pid)
    if began is None or abs(began - record.when / SECOND) > SLACK:
        os.close(handle)
        return None
    return record, handle


def survives(directory: str) -> bool:
    """Does the service in `directory` still run, though its supervise does not?"""
    found = survivor(directory)
    if found:
        os.close(found[1])
    return found is not None


def _start_of(pid: int) -> float | None:
    """When a process started, in seconds since 1970; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as content:
            fields = content.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
