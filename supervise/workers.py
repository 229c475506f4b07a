"""Children that run a job, then wait for the next: what a fork costs is paid once for many.

A server forks a Worker, hands it jobs over a socket pair, and reads its
reports.  A job is some bytes and some descriptors; what they mean is between
the server and the `handler` that runs in the worker.  A worker that dies, is
killed, or becomes another program reports by its death, like any child.

The server has no threads, and gives all workers of one kind the same user.
"""

from __future__ import annotations

import fcntl
import gc
import os
import socket
import struct

from supervise import chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
else:
    import _signal as signal  # the same without enums, which would cost 40 us a job

STATUS = struct.Struct("=i")
MAX_FDS = 8
OWN_FDS = 64  # a worker's own descriptors are from here on
MAX_JOB = 256 * 1024  # bytes; of one job, which travels as one datagram


class Worker:
    """One child.  `fileno()` becomes readable when `report()` has something to say."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self.jobs = 0  # handed over so far

    @classmethod
    def start(cls, name: str, handler: Callable[[bytes, list[int]], int]) -> Worker:
        """Fork a worker that answers each job with `handler(payload, descriptors)`, an exit code.

        The handler owns the descriptors.  Close-on-exec descriptors of the
        server are closed in the worker.  OSError: no fork, or no socket pair.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_JOB)
            try:
                pid = chain.fork(name, lambda: _work(theirs, handler))
            except OSError:
                ours.close()
                raise
        return cls(pid, ours)

    def fileno(self) -> int:
        return self._channel.fileno()

    def assign(self, payload: bytes, fds: Sequence[int] = ()) -> None:
        """Hand over a job; the caller may close its `fds` at once.

        OSError: the worker is dead, or the job too big.
        """
        self.jobs += 1
        socket.send_fds(self._channel, [payload], fds)

    def report(self) -> int | None:
        """The exit code of the job, after which the worker is idle; None if it has died.

        Call it when `fileno()` is readable.  A dead worker's status is for the
        server to reap, as of any child; `close` it then.
        """
        try:
            message = self._channel.recv(STATUS.size)
        except ConnectionResetError:
            return None
        return int(STATUS.unpack(message)[0]) if len(message) == STATUS.size else None

    def close(self) -> None:
        """Let the worker go: an idle one exits, a busy one after its job."""
        self._channel.close()


def _work(theirs: socket.socket, handler: Callable[[bytes, list[int]], int]) -> int:
    chain.close_on_exec(keep=[theirs.fileno()])
    channel = socket.socket(fileno=_out_of_the_way(theirs.detach()))
    dispositions = {number: signal.getsignal(number) for number in chain.SIGNALS}
    home, mask = _out_of_the_way(os.open(".", os.O_PATH | os.O_CLOEXEC)), os.umask(0)
    os.umask(mask)
    while True:
        try:
            payload, fds, _, _ = socket.recv_fds(channel, MAX_JOB, MAX_FDS)
        except ConnectionResetError:
            return 0
        if not payload:
            return 0
        status = handler(payload, fds)
        _tidy(dispositions, home, mask)
        try:
            channel.send(STATUS.pack(status))
        except OSError:  # the server is gone
            return 0


def _out_of_the_way(fd: int) -> int:
    """Move `fd` to a number that no program means when it says 3, 6 or 7."""
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OWN_FDS)
    except OSError:  # a limit on descriptors below that
        return fd
    os.close(fd)
    return moved


def _tidy(dispositions: Mapping[int, object], home: int, mask: int) -> None:
    """Put back what a program may change in its process and an exit would have undone."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, disposition in dispositions.items():
        if disposition is not None and signal.getsignal(number) != disposition:
            signal.signal(number, disposition)  # type: ignore[arg-type]
    try:
        os.fchdir(home)
    except OSError:  # it has become a user who may not go there
        os.chdir("/")
    os.umask(mask)
    gc.collect(0)
