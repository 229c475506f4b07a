"""mbox files: one message after the other, each below its From_ line, under a lock.

A line of the message that begins with `From `, or with that after any number
of `>`, gets one more `>`.
"""

from __future__ import annotations

import os
import re

from qmail.local_delivery.delivery import Undelivered
from qmail.local_delivery.time_limit import TimeIsUp, TimeLimit
from supervise.durable import sync_directory, write_all
from supervise.errors import reason
from supervise.locks import lock_ex

CHUNK = 64 * 1024  # bytes
LOCK_LIMIT = 30  # seconds
LONGEST_PREFIX = 64 * 1024  # bytes of `>`; a line with more is none that quoting made
FROM = re.compile(rb"^(?=>*From )", re.MULTILINE)
MAYBE_FROM = re.compile(rb">*(?:F|Fr|Fro|From)?\Z")


class FromQuoter:
    """Quotes From_ lines in a message that comes in pieces."""

    def __init__(self) -> None:
        self._undecided = b""  # how a line begins, if that may or may not become a From_ line
        self._in_line = False  # what has been given out ended within a line

    def feed(self, data: bytes) -> bytes:
        """Return what can be said of the message so far, beyond what was returned before."""
        data = self._undecided + data
        start = data.find(b"\n") + 1 or len(data) if self._in_line else 0
        last = max(data.rfind(b"\n") + 1, start)
        if MAYBE_FROM.match(data, last) and len(data) - last <= LONGEST_PREFIX:
            self._undecided = data[last:]
            data = data[:last]
        else:
            self._undecided = b""
        if data:
            self._in_line = not data.endswith(b"\n")
        return data[:start] + FROM.sub(b">", data[start:])

    def end(self) -> bytes:
        """Return what is left, and the end of the last line if it has none."""
        left = self._undecided
        return left + b"\n" if left or self._in_line else b""


def deliver(path: bytes, header: bytes, message: int) -> None:
    """Append `header`, which begins with the From_ line, and what can still be read from `message`.

    On return it is on disk.  Raises Undelivered; then what was written is
    taken away again.
    """
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise Undelivered(f"Unable to open {os.fsdecode(path)}: {reason(error)}. (#4.2.1)") from error
    try:
        locked = _lock(fd)
        end = _seek_end(fd)
        try:
            _append(fd, header, message)
            if not end:
                _sync_name(path, fd)
        except BaseException as error:
            if locked:
                _cut(fd, end)
            if not isinstance(error, OSError):
                raise
            text = f"Unable to write {os.fsdecode(path)}: {reason(error)}. (#4.3.0)"
            raise Undelivered(text) from error
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        with TimeLimit(LOCK_LIMIT):
            lock_ex(fd)
        return True
    except TimeIsUp as error:
        raise Undelivered("File has been locked for 30 seconds straight. (#4.3.0)") from error
    except OSError:  # no locks here; better twice the risk than no mail
        return False


def _seek_end(fd: int) -> int:
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    except OSError:  # a fifo or a device
        return 0


def _append(fd: int, header: bytes, message: int) -> None:
    quoter = FromQuoter()
    pending = header
    while data := _read(message):
        write_all(fd, pending + quoter.feed(data))
        pending = b""
    write_all(fd, pending + quoter.end() + b"\n")
    os.fsync(fd)


def _sync_name(path: bytes, fd: int) -> None:
    """Put the name of a new mbox on disk; where its owner may not read the directory, with the file again."""
    try:
        sync_directory(os.path.dirname(path) or b".")
    except PermissionError:
        os.fsync(fd)


def _read(message: int) -> bytes:
    try:
        return os.read(message, CHUNK)
    except OSError as error:
        raise Undelivered(f"Unable to read message: {reason(error)}. (#4.3.0)") from error


def _cut(fd: int, end: int) -> None:
    try:
        os.ftruncate(fd, end)
    except OSError:
        pass
