"""qmail-send(8): deliver messages from the queue.

SYNOPSIS
    qmail-send

DESCRIPTION
    qmail-send takes up what qmail-queue has put into the queue, has it
    delivered by qmail-lspawn and qmail-rspawn, tries again what failed for
    now, and sends bounces for what failed for good.  qmail-start starts it
    with these descriptors:
        0     the activity record, see qmail-log(5)
        1, 2  orders to qmail-lspawn, reports from it
        3, 4  orders to qmail-rspawn, reports from it
        5, 6  requests to qmail-clean, answers from it

    TERM: stop, once the deliveries under way have been reported.
    ALRM: everything in the queue is due now.
    HUP: read locals, virtualdomains, concurrencylocal, concurrencyremote and
    bouncemaxbytes again.

EXIT
    0: stopped by TERM, or because a companion has died.  111: cannot start.

FILES
    control/bouncefrom, bouncehost, bouncemaxbytes, concurrencylocal,
    concurrencyremote, doublebouncehost, doublebounceto, envnoathost, locals,
    me, percenthack, queuelifetime, virtualdomains;
    queue/lock/sendmutex, queue/lock/trigger, all of queue/

ENVIRONMENT
    QMAILHOME, QMAIL_CONTROLDIR, QMAILQUEUE
"""

from __future__ import annotations

import fcntl
import gc
import math
import os
import select
import signal
import time

from qmail import home as mail_home
from qmail.queueing.queue_layout import Queue
from qmail.sending import channel
from qmail.sending.arrivals import Arrivals
from qmail.sending.backlog import Backlog
from qmail.sending.channel import Channel, NoSpawner
from qmail.sending.cleaner import Cleaner
from qmail.sending.log import Log
from qmail.sending.manager import Manager
from qmail.sending.settings import Settings, Unreadable
from qmail.sending.store import Store
from qmail.sending.sweep import Sweep
from supervise.program import TEMPORARY, program
from supervise.signals import SignalPipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LOG, LOCAL_ORDERS, LOCAL_REPORTS, REMOTE_ORDERS, REMOTE_REPORTS, REQUESTS, ANSWERS = range(7)
ABOVE = 10  # where the descriptors are moved to
FOREVER = 86400  # seconds; the longest wait
SIGNALS = (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP)


class CannotStart(Exception):
    """Why, in the words of the log."""


@program("qmail-send", resident=True)
def main(argv: Sequence[str]) -> int:
    del argv
    fds = move_descriptors()
    log = Log(fds[LOG])
    try:
        run(fds, log, mail_home.find())
    except CannotStart as problem:
        log.line(b"alert: cannot start: " + str(problem).encode())
        return TEMPORARY
    finally:
        log.flush()
    return 0


def move_descriptors() -> list[int]:
    """Take 0 to 6 out of the way of whatever programs expect there; 1 and 2 become the log, like 0.

    Returns where they are now; -1 for one that is not open.
    """
    moved: list[int] = []
    for fd in range(7):
        try:
            moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE))
        except OSError:
            moved.append(-1)
    if moved[LOG] >= 0:
        for fd in (1, 2):
            os.dup2(moved[LOG], fd)
    os.closerange(3, 7)
    return moved


def run(fds: Sequence[int], log: Log, home: str) -> None:
    """Be qmail-send until it may exit.  Raises CannotStart."""
    settings, queue = enter(home)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with SignalPipe(SIGNALS) as signals:
        os.umask(0o077)
        lock("lock/sendmutex")
        channels = [
            connect(0, fds[LOCAL_ORDERS], fds[LOCAL_REPORTS], settings),
            connect(1, fds[REMOTE_ORDERS], fds[REMOTE_REPORTS], settings),
        ]
        store = Store(queue, log)
        cleaner = Cleaner(fds[REQUESTS], fds[ANSWERS], queue, log)
        manager = Manager(store, cleaner, log, channels, settings, home)
        Loop(home, log, store, cleaner, channels, manager, signals).run()


def enter(home: str) -> tuple[Settings, Queue]:
    """Read the controls and go to the queue."""
    if not os.path.isdir(home) or not os.access(home, os.X_OK, effective_ids=True):
        raise CannotStart("unable to switch to home directory")
    try:
        settings = Settings.read(home)
    except Unreadable as problem:
        raise CannotStart("unable to read controls") from problem
    try:
        os.chdir(f"{home}/queue")
        return settings, Queue.recognise(".")
    except OSError as error:
        raise CannotStart("unable to switch to queue directory") from error


def lock(path: str) -> None:
    """Make sure that there is one qmail-send; the descriptor stays open as long as the process."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CannotStart("unable to open mutex") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise CannotStart("qmail-send is already running") from error


def connect(index: int, orders: int, reports: int, settings: Settings) -> Channel:
    """Meet a spawner."""
    try:
        return Channel(index, orders, reports, settings.concurrency[index])
    except (NoSpawner, OSError) as error:
        raise CannotStart("hath the daemon spawn no fire?") from error


class Loop:
    """Waits for something to happen, and has everybody do a little of what there is to do."""

    def __init__(
        self,
        home: str,
        log: Log,
        store: Store,
        cleaner: Cleaner,
        channels: Sequence[Channel],
        manager: Manager,
        signals: SignalPipe,
    ) -> None:
        self._home = home
        self._log = log
        self._cleaner = cleaner
        self._channels = channels
        self._manager = manager
        self._signals = signals
        now = int(time.time())
        old = Backlog(store)
        for found in old:
            manager.add_found(found, now)
        self._arrivals = Arrivals(store, cleaner, log, old.suspects, now)
        self._arrivals.rewriting = manager.settings.rewriting
        manager.arrivals = self._arrivals
        self._sweep = Sweep(store.queue, cleaner, log, now)
        gc.collect()
        gc.freeze()

    def run(self) -> None:
        manager = self._manager
        manager.log_status()
        self._log.flush()
        while not (manager.exiting and manager.can_exit()):
            ready = self._wait()
            now = int(time.time())
            self._take_signals(now)
            self._receive(ready, now)
            if not manager.exiting:
                self._take_arrivals(ready, now)
            manager.fill(now)
            manager.finish(now)
            self._sweep.step(now)
            manager.exiting |= not self._cleaner.alive
            self._log.flush()
            self._send()
        manager.save()
        self._arrivals.close()
        self._log.line(b"status: exiting")

    def _wait(self) -> set[int]:
        """Wait until there is something to do; return the descriptors that are ready."""
        manager = self._manager
        times = [manager.next_step(), self._sweep.next_step(), time.time() + FOREVER]
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        if self._cleaner.alive:
            poll.register(self._cleaner.fileno(), select.POLLIN)
        for way in self._channels:
            if way.alive:
                poll.register(way.reports, select.POLLIN)
            if way.unsent():
                poll.register(way.orders, select.POLLOUT)
        if not manager.exiting:
            times.append(self._arrivals.next_step())
            if self._arrivals.fileno() >= 0:
                poll.register(self._arrivals.fileno(), select.POLLIN)
        seconds = max(min(times) - time.time(), 0)
        return {fd for fd, _ in poll.poll(math.ceil(seconds * 1000))}

    def _take_signals(self, now: int) -> None:
        arrived = self._signals.arrived()
        if signal.SIGTERM in arrived:
            self._manager.exiting = True
        if signal.SIGALRM in arrived:
            self._manager.run_all(now)
            self._arrivals.wake()
        if signal.SIGHUP in arrived:
            self._reread()

    def _reread(self) -> None:
        try:
            settings = self._manager.settings.reread(self._home)
        except Unreadable as problem:
            self._log.line(b"alert: unable to reread control/" + str(problem).encode())
            return
        self._manager.settings = settings
        self._arrivals.rewriting = settings.rewriting
        for way, concurrency in zip(self._channels, settings.concurrency, strict=True):
            way.set_concurrency(concurrency)

    def _receive(self, ready: set[int], now: int) -> None:
        if self._cleaner.alive and self._cleaner.fileno() in ready:
            self._cleaner.take_answers()
        for way in self._channels:
            if way.alive and way.reports in ready:
                reports = way.receive()
                if reports is None:
                    self._lose(way)
                else:
                    self._manager.take_reports(way, reports, now)

    def _lose(self, way: Channel) -> None:
        self._log.line(channel.LOST)
        way.alive = False
        self._manager.exiting = True

    def _take_arrivals(self, ready: set[int], now: int) -> None:
        if self._arrivals.fileno() in ready:
            self._arrivals.pull()
        jobs, preprocessed = self._arrivals.step(now, self._manager.room())
        for job in jobs:
            self._manager.add_waiting(job)
        for message in preprocessed:
            self._manager.add_preprocessed(message, now)

    def _send(self) -> None:
        for way in self._channels:
            if way.alive and not way.send():
                self._lose(way)
