"""What multilog reads: in a flood it stays in the pipe until it has been logged.

Who reads little at a time loses little to a SIGKILL, but is slow.  So the
large chunks of a flood are copied out of the pipe by tee(2), which leaves them
in it, and are taken out once they are written.  What multilog had not written
when it was killed is then there for the next one; the end of what it had
written may come a second time.
"""

from __future__ import annotations

import os

from supervise.patience import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LEAST = 1024
"""Bytes; what the original reads, and may lose."""
SPLICE_F_NONBLOCK = 2


class LogInput:
    """Descriptor 0, of which nobody else reads."""

    def __init__(self) -> None:
        self._tee: Callable[[int, int, int, int], int] | None = None
        self._copy = self._sink = -1  # a pipe for copies, empty between two reads
        self._unread = 0  # bytes that are known but still in the pipe

    def read(self, most: int) -> bytes:
        """At most `most` bytes, to be followed by `logged`; nothing at the end, which an error is, too.

        With little memory it reads little, without any it waits.
        """
        while True:
            try:
                return self._peek(most) if most > LEAST else os.read(0, most)
            except OSError:  # the original takes it so
                return b""
            except MemoryError:
                self.close()
                most = self._after_shortage(most)

    def logged(self) -> None:
        """Take out of the pipe what was read."""
        most = self._unread
        while self._unread:
            try:
                taken = os.read(0, min(self._unread, most))
            except OSError:  # the next `read` says so, too
                taken = b""
            except MemoryError:
                most = self._after_shortage(most)
                continue
            self._unread = self._unread - len(taken) if taken else 0  # another reader may have been quicker

    def _after_shortage(self, most: int) -> int:
        """How much to read when there was no memory for `most` bytes; wait if that was little."""
        if most <= LEAST:
            pause("unable to read, pausing: out of memory")
        return min(most, LEAST)

    def close(self) -> None:
        """Forget what was copied; it is still in the pipe."""
        for fd in (self._copy, self._sink):
            if fd >= 0:
                os.close(fd)
        self._copy = self._sink = -1

    def _peek(self, most: int) -> bytes:
        if not self._prepared():
            return os.read(0, LEAST)
        assert self._tee
        count = self._tee(0, self._sink, most, SPLICE_F_NONBLOCK)
        if count < 0:  # no pipe: what is in it is lost with its reader, however little that reads
            return os.read(0, most)
        chunk = os.read(self._copy, count) if count else b""
        self._unread = count
        return chunk

    def _prepared(self) -> bool:
        """Be ready to copy; False if that cannot be, now."""
        try:
            if not self._tee:
                self._tee = _system_call()
            if self._copy < 0:
                self._copy, self._sink = os.pipe2(os.O_CLOEXEC)
        except (OSError, ImportError):  # no descriptors, say
            return False
        return True


def _system_call() -> Callable[[int, int, int, int], int]:
    """tee(2), which the module os has not."""
    import ctypes

    tee = ctypes.CDLL(None).tee
    tee.argtypes = ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint
    tee.restype = ctypes.c_ssize_t
    call: Callable[[int, int, int, int], int] = tee
    return call
