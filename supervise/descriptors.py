"""The descriptors of this process: which are open, where they stand, and how to close the rest."""

from __future__ import annotations

import fcntl
import os
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

OWN = range(64, 80)
"""The descriptors that a server keeps for itself: no program means them when it says 3, 6 or 7."""
UNLIMITED = 1 << 20  # descriptors: what Linux allows at most unless it is told otherwise


def opened() -> list[int]:
    """Those that are open, in order."""
    return sorted(fd for fd in _listed() if _flags(fd) >= 0)


def inheritable() -> list[int]:
    """Those that are not marked close-on-exec, in order."""
    return [fd for fd in opened() if not _flags(fd) & fcntl.FD_CLOEXEC]


def close_on_exec(keep: Container[int] = ()) -> None:
    """As exec does: close those that are marked so, but for those in `keep`."""
    _close(fd for fd in _listed() if fd not in keep and _flags(fd) & fcntl.FD_CLOEXEC)


def close_besides(keep: Container[int]) -> None:
    """Close all but those in `keep`."""
    _close(fd for fd in _listed() if fd not in keep)


def _listed() -> Iterable[int]:
    """Those that are open, and the one that listed them, which no longer is; else all that there may be."""
    try:
        return map(int, os.listdir("/proc/self/fd"))
    except OSError:
        return range(limit())


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:  # the one that listed them, or close was interrupted, but has closed
            pass


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


def arrange(fds: Mapping[int, int]) -> None:
    """Make each descriptor of `fds` a copy of the one it maps to, whatever the order, for exec to inherit."""
    spare = max([2, *fds, *fds.values()]) + 1
    copies = {target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, spare) for target, source in fds.items()}
    for target, copy in copies.items():
        os.dup2(copy, target)
        os.close(copy)


def above_the_standard_ones(fd: int) -> int:
    """Move a close-on-exec descriptor from where input or output is expected, but was closed."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def out_of_the_way(fd: int) -> int:
    """Move a descriptor of the server's own to a number that no program means when it says 3, 6 or 7.

    After a job the worker closes what the program has left open; what was
    moved here before or during the job stays.
    """
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OWN.start)
    except OSError:  # a limit on descriptors below that
        return fd
    os.close(fd)
    return moved
