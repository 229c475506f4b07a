"""Children that run a job, then wait for the next: what a fork costs is paid once for many.

A server forks a Worker, hands it jobs over a socket pair, and reads its
reports.  A job is some bytes and some descriptors; what they mean is between
the server and the `handler` that runs in the worker.  A worker that dies, is
killed, or becomes another program reports by its death, like any child; so
does one whose program has changed what cannot be put back.

Between jobs a worker undoes what the end of a process would: signal handlers,
alarms, directory, umask, descriptors left open, children not waited for.  (A
worker that has become another user stays that user; its server knows.)

The server has no threads, and gives all workers of one kind the same user.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import socket
import struct
from array import array

from supervise import chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
else:
    import _signal as signal  # the same without enums, which would cost 40 us a job

STATUS = struct.Struct("=i")
MAX_FDS = 8
RIGHTS_SIZE = socket.CMSG_SPACE(MAX_FDS * array("i").itemsize)
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
        """Hand over a job, which is not empty; the caller may close its `fds` at once.

        OSError: the worker is dead, or the job too big.
        """
        assert payload, "an empty datagram is the end"
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
    channel = socket.socket(fileno=chain.out_of_the_way(theirs.detach()))
    surroundings = _Surroundings()
    buffer = mmap.mmap(-1, MAX_JOB)  # takes memory only as far as a job fills it
    while True:
        try:
            size, rights, _, _ = channel.recvmsg_into([buffer], RIGHTS_SIZE, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return 0
        if not size:
            return 0
        status = handler(buffer[:size], _descriptors(rights))
        if not surroundings.put_back():
            return status
        try:
            channel.send(STATUS.pack(status))
        except OSError:  # the server is gone
            return 0


def _descriptors(rights: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array("i")
    for _, _, data in rights:
        fds.frombytes(data)
    return list(fds)


class _Surroundings:
    """What a program may change in its process and an exit would have undone."""

    def __init__(self) -> None:
        self._handlers = {number: signal.getsignal(number) for number in chain.SIGNALS}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._home = chain.out_of_the_way(os.open(".", os.O_PATH | os.O_CLOEXEC))
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._group = os.getpgrp()
        self._seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
        self._open = frozenset(name for name in os.listdir("/proc/self/fd") if _is_open(int(name)))

    def put_back(self) -> bool:
        """Undo it.  False: that cannot be, or the next job would pay for this one's processor time."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        try:
            os.fchdir(self._home)
        except OSError:  # it has become a user who may not go there
            os.chdir("/")
        os.umask(self._umask)
        gc.collect(0)
        self._close_the_rest()
        _reap()
        return os.getpgrp() == self._group and self._seconds == resource.RLIM_INFINITY

    def _close_the_rest(self) -> None:
        for name in os.listdir("/proc/self/fd"):
            if name not in self._open and int(name) not in chain.OWN_FDS:
                try:
                    os.close(int(name))
                except OSError:  # the listing's own
                    pass


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _reap() -> None:
    """Forget children that the program did not wait for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
