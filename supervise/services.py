"""A service as svscan knows it: its supervise, its log's supervise, and the pipe between them."""

from __future__ import annotations

import fcntl
import os
import struct
import time

from supervise import adoption, status
from supervise.errors import reason
from supervise.starts import Start, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    import _signal as signal  # the same without enums, which cost time and memory

FIONREAD = (
    0x541B  # asm-generic/ioctls.h; the module termios would be five mappings more for each fork to copy
)
LOG_TIME = 10.0  # seconds for a log to read on, or to take notice of the end
PACE = 1.0  # seconds between two starts of a supervise, while all ends
REVIVALS = 3  # of the supervise of a service that runs on; it may be another's
DEAF = 50  # attempts to tell a supervise something


class Service:
    """One subdirectory; it goes by `name` in messages.

    Every method warns of what it cannot do, and may be called again later.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.active = True  # seen in the last look at the directory
        self.pid = 0  # of its supervise; 0 if there is none
        self.log_pid = 0
        self.pipe: tuple[int, int] | None = None  # its ends, if there is a log
        self._plumbed = False  # there is a pipe, or no log
        self._told: dict[int, Told] = {}
        self._began = 0.0  # monotonic, the last start of its supervise
        self._revivals = 0  # supervises that were started only to end it
        self._log_over = False  # it has ended as it was told to
        self._log_began = 0.0  # monotonic, as the next
        self._log_may_read_until = 0.0
        self._log_unread = -1  # bytes, in the last look

    def _make_pipe(self) -> bool:
        """Have a pipe if there is a log; False if that fails."""
        if self._plumbed:
            return True
        problem = f"unable to stat {self.name}/log"
        try:
            os.stat(f"{self.name}/log")
            problem = f"unable to create pipe for {self.name}"
            self.pipe = os.pipe2(os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        except OSError as error:
            warn(f"{problem}: {reason(error)}")
            return False
        self._plumbed = True
        return True

    def missing(self) -> list[Start]:
        """What is to be started for it now."""
        starts: list[Start] = []
        if not self._make_pipe():
            return starts
        if not self.pid:
            starts.append(self._service_start())
        if self.pipe and not self.log_pid:
            starts.append(self.log_start(self.pipe[0]))
        return starts

    def _service_start(self) -> Start:
        sink = self.pipe[1] if self.pipe else -1
        return Start(self.name, ".", self.name, sink, 1, self._started)

    def log_start(self, source: int) -> Start:
        return Start(f"{self.name}/log", self.name, "log", source, 0, self._log_started)

    def _started(self, pid: int) -> None:
        self.pid = pid
        self._began = time.monotonic()

    def _log_started(self, pid: int) -> None:
        self.log_pid = pid
        self._log_began = time.monotonic()

    def ended(self, pid: int) -> bool:
        """Take notice that `pid` has ended; False if it is none of ours."""
        if pid == self.pid:
            self.pid = 0
        elif pid == self.log_pid:
            self.log_pid = 0
            self._log_over = pid in self._told
        else:
            return False
        self._told.pop(pid, None)
        return True

    def close_pipe(self) -> None:
        for end in self.pipe or ():
            if end >= 0:
                os.close(end)
        self.pipe = None

    def end(self, urgency: int) -> list[Start] | None:
        """Go on ending it, by what is to be started for that; None once all of it has ended.

        The service goes down first.  Its log runs on until it has read all,
        unless it was down.  `urgency`: 1 asks, 2 also kills the service and
        has the log not wait for the end of its input, 3 also kills the log.
        """
        if self.pid:
            self._tell(self.pid, lambda _: b"dx" if urgency == 1 else b"dxk")
            return self._log_again(self.pipe[0]) if self.pipe and not self.log_pid else []
        if self._revivals < REVIVALS and adoption.survives(self.name):  # its supervise was killed
            return self._revive()
        return self._end_log(urgency, *self.pipe) if self.pipe else None

    def _revive(self) -> list[Start]:
        """Start the supervise again, which will go on with the service, to be told to end it."""
        if time.monotonic() < self._began + PACE:
            return []
        self._revivals += 1
        return [self._service_start()]

    def _end_log(self, urgency: int, source: int, sink: int) -> list[Start] | None:
        if sink >= 0:
            os.close(sink)  # now the log's input ends with what is in the pipe
            self.pipe = source, -1
        unread = _unread(source)
        if unread != self._log_unread:
            self._log_unread = unread
            self._log_may_read_until = time.monotonic() + LOG_TIME
        if self.log_pid:
            if urgency == 1 and time.monotonic() > self._log_may_read_until:
                urgency = 2  # it is stuck, or somebody whom the service left behind holds the pipe
            self._tell(self.log_pid, (_last_orders, lambda _: b"dx", lambda _: b"dxk")[urgency - 1])
            return []
        if self._log_over or time.monotonic() > self._log_may_read_until or not unread:
            return None
        return self._log_again(source)  # it was killed, or is between two lives

    def _log_again(self, source: int) -> list[Start]:
        return [self.log_start(source)] if time.monotonic() > self._log_began + PACE else []

    def _tell(self, pid: int, orders: Callable[[str], bytes]) -> None:
        """Give the supervise `pid` its `orders`, once; if it does not listen for long, signal it.

        They are asked for with the directory that it supervises; OSError: not yet.
        """
        told = self._told.setdefault(pid, Told())
        directory = f"/proc/{pid}/cwd"
        try:
            commands = orders(directory)
            if told.commands != commands:
                _write(f"{directory}/{status.CONTROL}", commands)
                told.commands = commands
        except OSError:  # it has not come so far yet, or never will
            told.failures += 1
            if told.failures == DEAF:
                os.kill(pid, signal.SIGTERM)


class Told:
    """What a supervise has been told, and how often it could not be."""

    def __init__(self) -> None:
        self.commands = b""
        self.failures = 0


def _write(fifo: str, commands: bytes) -> None:
    fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, commands)
    finally:
        os.close(fd)


def _last_orders(directory: str) -> bytes:
    """For a log: run once more, to the end of input, and leave; but stay down if it is to be down."""
    if not status.supervised(directory):
        raise BlockingIOError  # what its record says is of an earlier life
    try:
        return b"x" if status.read(directory).want == "d" else b"ox"
    except (OSError, ValueError):
        return b"ox"


def _unread(pipe: int) -> int:
    """How many bytes are in the pipe."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, FIONREAD, bytes(4)))[0])
