"""Changes on disk that survive a power cut: write, fsync, rename or link, fsync the directory.

A failed fsync is final for its file: Linux may report success the next time
for bytes that it has dropped.  So nothing here tries one again; the caller
gives the file up.
"""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` to `fd`, however short the single writes are."""
    written = os.write(fd, data)
    if written == len(data):
        return
    rest = memoryview(data)[written:]
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_directory(path: str | bytes) -> None:
    """Put the names in the directory `path` on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: str, content: bytes, temporary: str, mode: int = 0o644) -> None:
    """Make `content` the file `path`, all or nothing, by way of `temporary` in the same directory.

    On return it is on disk.  If OSError is raised the old file stands (or,
    should the last fsync fail, one of the two).
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, mode)
    try:
        write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path) or ".")
