"""Locks on files, as the originals take them: flock(2), kept by the open file and its copies."""

from __future__ import annotations

import fcntl


def lock_ex(fd: int) -> None:
    """Lock `fd` for this process alone; wait for whoever has it.  Raises OSError."""
    fcntl.flock(fd, fcntl.LOCK_EX)


def lock_exnb(fd: int) -> None:
    """Lock `fd` for this process alone.  Raises OSError (EAGAIN, "temporary failure") if it is taken."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
