"""svscan(8): starts and monitors a collection of services.

SYNOPSIS   svscan [dir]

DESCRIPTION
    Runs a supervise for each subdirectory (or link to one) of dir, or of the
    present directory, whose name does not begin with a dot: 1000 at most.  If
    the subdirectory has a log of its own, svscan runs a second supervise
    there, and a pipe leads from the first's output to the second's input; the
    pipe stays, so that no line is lost when either is started again.

    Every five seconds it looks again: new subdirectories are taken up, and a
    supervise that has ended is started again.  When a subdirectory is gone
    and its supervise too, both are forgotten.  Children that are not its own
    are reaped, so svscan may be process 1.

    A supervise earlier in PATH is run in place of this toolkit's own.

SIGNALS    HUP: look again at once.
           TERM, INT: end.  Every service is told to go down and is waited for;
           its log runs until it has read all, or has not read on for ten
           seconds.  A second TERM or INT kills the services that are still up,
           a third the logs.  As process 1, svscan ends the other processes,
           too.  As a shell's background job (INT is ignored) it dies of TERM
           like any program, and its services stay.

EXIT       0: it was told to end, and all services have ended.
           111: dir cannot be entered.

FILES      dir/*/run, dir/*/log/run; see supervise
"""

from __future__ import annotations

import gc
import os
import select
import stat
import time

from supervise import children, descriptors
from supervise.errors import reason
from supervise.program import program, unable_to
from supervise.services import Service
from supervise.signals import SignalPipe
from supervise.starts import AT_ONCE, MOST_OPEN, Heritage, start_all, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which cost time and memory

CAUGHT = (signal.SIGCHLD, signal.SIGHUP)
ENDING = (signal.SIGTERM, signal.SIGINT)
LIMIT = 1000  # services
DESCRIPTORS = 2 * LIMIT + AT_ONCE * MOST_OPEN + 100
PERIOD = 5.0  # seconds between two looks
MOMENT = 0.1  # seconds between two attempts to end what has not ended
LAST_WORDS = 5.0  # seconds for other processes to end, as process 1


@program("svscan", resident=True)
def main(argv: Sequence[str]) -> int:
    heritage = Heritage(descriptors.opened())
    if argv:
        with unable_to(f"chdir to {argv[0]}"):
            os.chdir(argv[0])
    gc.collect()
    gc.freeze()
    heritage.allow_descriptors(DESCRIPTORS)
    try:
        with SignalPipe([*CAUGHT, *(() if _in_background() else ENDING)]) as signals:
            Scanner(signals, heritage).run()
    finally:
        heritage.restore()
    return 0


class Scanner:
    """The services of the present directory."""

    def __init__(self, signals: SignalPipe, heritage: Heritage) -> None:
        self._signals = signals
        self._poll = select.poll()
        self._poll.register(signals, select.POLLIN)
        self._heritage = heritage
        self._services: dict[tuple[int, int], Service] = {}  # by device and inode of the directory
        self._next_look = 0.0  # monotonic
        self._urgency = 0  # how often it was told to end

    def run(self) -> None:
        """Keep the services, until a signal says to end them; return when they have ended."""
        while not self._urgency:
            self._reap()
            if time.monotonic() >= self._next_look:
                self._look()
                self._next_look = time.monotonic() + PERIOD
            self._wait(self._next_look - time.monotonic())
        while self._end():
            self._wait(MOMENT)
            self._reap()
        for service in self._services.values():
            service.close_pipe()
        if os.getpid() == 1:
            self._end_everything()

    def _end(self) -> bool:
        """Go on ending the services; False once all have ended."""
        needed = [service.end(self._urgency) for service in self._services.values()]
        start_all((start for starts in needed for start in starts or ()), self._heritage)
        return any(starts is not None for starts in needed)

    def _wait(self, seconds: float) -> None:
        """Wait for a signal, but not longer than that."""
        self._poll.poll(max(0.0, seconds) * 1000)
        arrived = self._signals.arrived()
        if signal.SIGHUP in arrived:
            self._next_look = 0.0
        if arrived & set(ENDING):
            self._urgency = min(self._urgency + 1, 3)

    def _reap(self) -> None:
        """Take notice of what has ended."""
        for pid, _ in children.ended():
            any(service.ended(pid) for service in self._services.values())

    def _look(self) -> None:
        """Start what is new, and what has ended; forget what is gone."""
        try:
            with os.scandir(".") as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:  # no descriptors, say: those that it knows still run
            warn(f"unable to read directory: {reason(error)}")
        else:
            for service in self._services.values():
                service.active = False
            for entry in found:
                self._take_up(entry)
        active = [service for service in self._services.values() if service.active]
        start_all((start for service in active for start in service.missing()), self._heritage)
        for key, service in list(self._services.items()):
            if not service.active and not service.pid and not service.log_pid:
                service.close_pipe()
                del self._services[key]

    def _take_up(self, entry: os.DirEntry[str]) -> None:
        try:
            found = os.stat(entry.name)
        except OSError as error:
            warn(f"unable to stat {entry.name}: {reason(error)}")
            return
        if not stat.S_ISDIR(found.st_mode):
            return
        key = (found.st_dev, found.st_ino)
        service = self._services.get(key)
        if not service:
            if len(self._services) >= LIMIT:
                warn(f"unable to start {entry.name}: running too many services")
                return
            service = self._services[key] = Service(entry.name)
        service.active = True
        service.name = entry.name

    def _end_everything(self) -> None:
        """As process 1: ask all that is left to end, and give it a while."""
        try:
            os.kill(-1, signal.SIGTERM)
            os.kill(-1, signal.SIGCONT)
        except OSError:  # there are none, or none that it may
            return
        deadline = time.monotonic() + LAST_WORDS
        while children.any_left() and time.monotonic() < deadline:
            self._wait(MOMENT)
            self._reap()


def _in_background() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN and os.getpid() != 1
