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

import _socket  # for workers, which need nothing of what socket puts around it
import gc
import mmap
import os
import resource
import socket
import struct
from array import array

from supervise import children, descriptors, signals
from supervise.steps import take

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence

    from supervise.steps import Step

    Handler = Callable[[bytes, list[int]], int]
else:
    import _signal as signal  # the same without enums, which would cost 40 us a job

KIND = (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0)
STATUS = struct.Struct("=i")
MAX_FDS = 8
RIGHTS_SIZE = socket.CMSG_SPACE(MAX_FDS * array("i").itemsize)
MAX_JOB = 256 * 1024  # bytes; of one job, which travels as one datagram


class Worker:
    """One child.  `fileno()` becomes readable when `report()` has something to say."""

    def __init__(self, pid: int, channel: socket.socket, jobs: int) -> None:
        self.pid = pid
        self._channel = channel
        self.jobs = jobs  # handed over so far

    @classmethod
    def start(cls, name: str, handler: Handler, surroundings: Surroundings) -> Worker:
        """Fork a worker.  OSError: no fork, or no socket pair."""
        workers, problem = cls.start_each(name, [Birth(handler, surroundings)])
        if problem:
            raise problem
        return workers[0]

    @classmethod
    def start_each(cls, name: str, births: Sequence[Birth]) -> tuple[list[Worker], OSError | None]:
        """Fork workers in a row; return them, and why there are no more.  The births are over then."""
        pids, problem = children.fork_each(name, [birth.work for birth in births])
        workers = [cls(pid, birth.deliver(), birth.jobs) for pid, birth in zip(pids, births, strict=False)]
        for birth in births[len(pids) :]:
            birth.abandon()
        return workers, problem

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


class Birth:
    """A worker that is about to be forked, and what can be made ready for it by its server.

    It answers each job with `handler(payload, descriptors)`, an exit code.
    The handler owns the descriptors.  Close-on-exec descriptors of the server
    are closed in the worker.

    first: a job that it is born with: what the server has at hand is at hand
    in it, too.  fds: its descriptors then, each a copy of one here.

    OSError: no socket pair.
    """

    def __init__(
        self,
        handler: Handler,
        surroundings: Surroundings,
        first: Callable[[], int] | None = None,
        fds: Mapping[int, int] | None = None,
    ) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._ours, self._theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_JOB)
        self._handler = handler
        self._surroundings = surroundings
        self._first = first
        self._channel = surroundings.channel
        self._steps: list[Step] = [(os.dup2, (source, target)) for target, source in (fds or {}).items()]
        if self._theirs.fileno() != self._channel:
            self._steps.append((os.dup2, (self._theirs.fileno(), self._channel, False)))
        self._steps += [(os.closerange, ends) for ends in surroundings.ranges_besides]

    @property
    def jobs(self) -> int:
        """How many it is born with."""
        return 1 if self._first else 0

    def deliver(self) -> socket.socket:
        """The worker is forked: the server's end of its channel."""
        self._theirs.close()
        return self._ours

    def abandon(self) -> None:
        """There is no worker."""
        self._ours.close()
        self._theirs.close()

    def work(self) -> int:
        """Do job after job; return the exit code, once the server wants no more of them."""
        take(self._steps)
        status = self._first() if self._first else None
        channel = _socket.socket(*KIND, self._channel)
        end = None if status is None else self._report(channel, status)
        buffer = mmap.mmap(-1, MAX_JOB)  # takes memory only as far as a job fills it
        while end is None:
            try:
                size, rights, _, _ = channel.recvmsg_into([buffer], RIGHTS_SIZE, socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                return 0
            if not size:
                return 0
            end = self._report(channel, self._handler(buffer[:size], _descriptors(rights)))
        return end

    def _report(self, channel: _socket.socket, status: int) -> int | None:
        """Be fit for the next job and say so; an exit code if there will be none."""
        if not self._surroundings.put_back():
            return status
        try:
            channel.send(STATUS.pack(status))
        except OSError:  # the server is gone
            return 0
        return None


def _descriptors(rights: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array("i")
    for _, _, data in rights:
        fds.frombytes(data)
    return list(fds)


class Surroundings:
    """What a program may change in its process and an exit would have undone.

    A server looks at its own once, when they are what its workers are to find.
    """

    def __init__(self) -> None:
        self._handlers = {
            number: signal.SIG_IGN if signal.getsignal(number) == signal.SIG_IGN else signal.SIG_DFL
            for number in signals.SIGNALS
        }
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._home = descriptors.out_of_the_way(os.open(".", os.O_PATH | os.O_CLOEXEC))
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._group = os.getpgrp()
        self._seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
        kept = descriptors.inheritable()
        self._kept = {*kept, *descriptors.OWN, self._home}
        self.channel = min(descriptors.OWN.stop, descriptors.limit()) - 1  # of each worker, to its server
        self.ranges_besides = descriptors.ranges_besides([*kept, self._home, self.channel])

    def close(self) -> None:
        """Have no more workers."""
        os.close(self._home)

    def put_back(self) -> bool:
        """Undo it.  False: that cannot be, or the next job would pay for this one's processor time."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) not in (handler, None):
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        try:
            os.fchdir(self._home)
        except OSError:  # it has become a user who may not go there
            os.chdir("/")
        os.umask(self._umask)
        gc.collect(0)
        descriptors.close_besides(self._kept)
        for _ in children.ended():  # whom the program did not wait for
            pass
        return os.getpgrp() == self._group and self._seconds == resource.RLIM_INFINITY
