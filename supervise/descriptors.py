"""The descriptors of this process: which are open, which exec keeps, how to close the rest at once."""

from __future__ import annotations

import fcntl
import os
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

UNLIMITED = 1 << 20  # descriptors: what Linux allows at most unless it is told otherwise


def opened() -> list[int]:
    """Those that are open, in order."""
    return sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if _flags(fd) >= 0)


def inheritable() -> list[int]:
    """Those that are not marked close-on-exec, in order."""
    return [fd for fd in opened() if not _flags(fd) & fcntl.FD_CLOEXEC]


def _flags(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:  # the one that listed them
        return -1


def limit() -> int:
    """One more than the highest there may be."""
    soft = getrlimit(RLIMIT_NOFILE)[0]
    return UNLIMITED if soft == RLIM_INFINITY else soft


def ranges_besides(kept: Iterable[int]) -> list[tuple[int, int]]:
    """The first and the end of each range of descriptors from 3 on but `kept`: for os.closerange."""
    apart = sorted({fd for fd in kept if fd >= 3})
    starts = [3, *(fd + 1 for fd in apart)]
    ends = [*apart, max(limit(), starts[-1])]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]
