"""What qmail-lspawn and qmail-rspawn have in common: orders in, programs run, reports out.

Each delivery is a program with the message on its descriptor 0; what it says
on 1 and 2 goes into the report.  The queue's files are opened here, so the
program needs no right to the queue.  A delivery is over when its program has
ended and nobody holds its output open any more.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qmail.spawning.agents import Agent, Agents, User
from qmail.spawning.order_checks import Mess, Unopened, refusal
from qmail.spawning.orders import MOST_SLOTS, Order, OrderReader, Report, announcement, encode_report
from supervise import chain, children
from supervise.durable import write_all
from supervise.errors import temporary
from supervise.signals import SignalPipe

DEFAULT_LIMIT = 120  # deliveries at a time: qmail's conf-spawn
ORDERS, REPORTS = 0, 1  # descriptors
OTHER_DESCRIPTORS = 200  # the server's own, and the idle workers'
CHUNK = 16 * 1024  # bytes
IDLE_LIMIT = 60.0  # seconds that a worker may wait for its next delivery, or a bit more
TOO_LONG = b"\nError report too long, sorry.\n"


@dataclass(frozen=True, slots=True)
class Run:
    """A program to run for a delivery.

    `done` gets its exit code, or minus the signal that killed it, and what it
    said; it returns what to run next, or the text of the report.
    """

    argv: Sequence[str]
    user: User | None  # None: stay who we are
    done: Callable[[int, bytes], Run | bytes]
    unable: tuple[int, int]  # its exit codes if it cannot be run: for now, for good
    most_output: int  # bytes; more is cut
    reads_message: bool = True


def limit_of(setting: int) -> int:
    """How many deliveries at a time control/conf-spawn allows; above 255, slots have two bytes."""
    return max(1, min(setting, MOST_SLOTS))


def preload(name: str) -> None:
    """Import what `name` would run and need, if it is the toolkit's, so that the workers share it."""
    try:
        chain.preload_all([name])
    except ImportError:  # half installed; each delivery will tell
        pass


class Delivery:
    """One order under way."""

    __slots__ = ("agent", "message", "output", "pipe", "run", "slot", "status")

    def __init__(self, slot: int, message: int, run: Run) -> None:
        self.slot = slot
        self.message = message  # descriptor; -1 once handed over
        self.begin(run)

    def begin(self, run: Run) -> None:
        self.run = run
        self.agent: Agent | None = None
        self.pipe = -1  # descriptor; -1 when nothing more can come
        self.output = b""
        self.status: int | None = None

    def said(self, data: bytes) -> None:
        most = self.run.most_output
        self.output += data
        if len(self.output) > most:
            self.output = self.output[: most - len(TOO_LONG) - 3] + TOO_LONG


def _allow_descriptors(wanted: int) -> tuple[int, int]:
    """Raise the soft limit on open files to `wanted`, as far as the hard one goes; return the old limits."""
    soft, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return limits


class Spawner:
    """The server.  `first` says for a proper order what to run, or what to report at once."""

    def __init__(self, limit: int, mess: Mess, first: Callable[[Order], Run | bytes]) -> None:
        self._limit = limit
        self._mess = mess
        self._first = first
        self._slot_bytes = len(announcement(limit))
        self._orders = OrderReader(self._slot_bytes)
        self._reading = self._writing = True
        self._deliveries: dict[int, Delivery] = {}  # by slot
        self._agents = Agents(_allow_descriptors(3 * limit + OTHER_DESCRIPTORS))
        self._sweep = 0.0  # when to look for workers idle for too long
        self._working: dict[int, Delivery] = {}  # by the pid of the agent
        self._ready: dict[int, Callable[[], None]] = {}  # by descriptor

    def serve(self) -> None:
        """Announce the limit, then work until qmail-send closes the pipe and all deliveries are over."""
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        gc.collect()
        gc.freeze()
        with (
            contextlib.closing(self._agents),
            SignalPipe([signal.SIGCHLD]) as deaths,
            select.epoll() as self._poll,
        ):
            self._watch(deaths.fileno(), lambda: self._reap(deaths))
            self._write(announcement(self._limit))
            self._watch_orders()
            while self._reading or self._deliveries:
                self._wait()
            self._dismiss_idle(math.inf)

    def _wait(self) -> None:
        events = self._poll.poll(IDLE_LIMIT if self._agents else None)
        ready = [(fd, self._ready[fd]) for fd, _ in events]
        for fd, handler in ready:
            if self._ready.get(fd) is handler:  # an event before this one may have closed fd
                handler()
        now = time.monotonic()
        if now >= self._sweep:
            self._sweep = now + IDLE_LIMIT
            self._dismiss_idle(now - IDLE_LIMIT)

    def _dismiss_idle(self, since: float) -> None:
        for agent in self._agents.idle(since):
            self._dismiss(agent)

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._ready[fd] = handler
        self._poll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._ready[fd]
        self._poll.unregister(fd)

    # --- orders and reports

    def _watch_orders(self) -> None:
        try:
            self._watch(ORDERS, self._read_orders)
        except PermissionError:  # a file, always ready
            del self._ready[ORDERS]
            while self._reading:
                self._read_orders()

    def _read_orders(self) -> None:
        try:
            data = os.read(ORDERS, CHUNK)
        except OSError:
            data = b""
        if not data:
            self._reading = False
            if ORDERS in self._ready:
                self._unwatch(ORDERS)
        for order in self._orders.feed(data):
            self._take(order)

    def _report(self, slot: int, text: bytes) -> None:
        self._write(encode_report(Report(slot, text), self._slot_bytes))

    def _write(self, data: bytes) -> None:
        if not self._writing:
            return
        try:
            write_all(REPORTS, data)
        except OSError:  # qmail-send is gone; what is under way is finished all the same
            self._writing = False

    # --- deliveries

    def _take(self, order: Order) -> None:
        wrong = refusal(order, self._limit, order.slot in self._deliveries)
        if wrong:
            self._report(order.slot, wrong)
            return
        try:
            message = self._mess.open(order.message)
        except Unopened as error:
            self._report(order.slot, str(error).encode())
            return
        plan = self._first(order)
        if isinstance(plan, bytes):
            os.close(message)
            self._report(order.slot, plan)
            return
        delivery = self._deliveries[order.slot] = Delivery(order.slot, message, plan)
        self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        """Start the delivery's program."""
        run = delivery.run
        try:
            _, module = chain.find(run.argv[0])
            if module:
                chain.load(module)
        except (OSError, ImportError) as error:  # ImportError: the toolkit is being replaced
            for_good = isinstance(error, OSError) and not temporary(error)
            self._follow(delivery, run.unable[for_good])
            return
        try:
            ours, theirs = os.pipe()
        except OSError:
            self._finish(delivery, b"Zqmail-spawn unable to create pipe. (#4.3.0)\n")
            return
        try:
            self._start(delivery, module, theirs)
        except OSError:
            os.close(ours)
            self._finish(delivery, b"Zqmail-spawn unable to fork. (#4.3.0)\n")
            return
        finally:
            os.close(theirs)
        delivery.pipe = ours
        os.set_blocking(ours, False)
        self._watch(ours, lambda: self._listen(delivery))

    def _start(self, delivery: Delivery, module: str | None, output: int) -> None:
        run = delivery.run
        message = delivery.message if run.reads_message else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            agent = self._agents.start(run.argv, module, run.user, (message, output), run.unable)
        finally:
            if not run.reads_message:
                os.close(message)
        if run.reads_message:
            os.close(message)
            delivery.message = -1
        delivery.agent = agent
        self._working[agent.pid] = delivery
        if agent.worker and agent.worker.fileno() not in self._ready:
            self._watch(agent.worker.fileno(), lambda: self._hear(agent))

    def _listen(self, delivery: Delivery) -> None:
        """Read what the program says; the end of it may be the end of the delivery."""
        while True:
            try:
                data = os.read(delivery.pipe, CHUNK)
            except BlockingIOError:
                return
            if not data:
                break
            delivery.said(data)
        self._unwatch(delivery.pipe)
        os.close(delivery.pipe)
        delivery.pipe = -1
        self._perhaps_over(delivery)

    def _hear(self, agent: Agent) -> None:
        """A worker has finished its job, or died."""
        assert agent.worker
        code = agent.worker.report()
        delivery = self._working.get(agent.pid)
        if code is None or delivery is None:  # _reap learns how it died
            self._dismiss(agent)
            return
        del self._working[agent.pid]
        if not self._agents.keep(agent, time.monotonic()):
            self._dismiss(agent)
        self._ended(delivery, code)

    def _dismiss(self, agent: Agent) -> None:
        assert agent.worker
        self._unwatch(agent.worker.fileno())
        agent.worker.close()
        self._agents.forget(agent)

    def _reap(self, deaths: SignalPipe) -> None:
        deaths.arrived()
        for pid, status in children.ended():
            delivery = self._working.pop(pid, None)
            if delivery:
                self._died(delivery, os.waitstatus_to_exitcode(status))

    def _died(self, delivery: Delivery, status: int) -> None:
        agent = delivery.agent
        if agent and agent.worker and agent.worker.fileno() in self._ready:
            last = agent.worker.report()  # it may have finished its job before
            self._dismiss(agent)
            status = status if last is None else last
        self._ended(delivery, status)

    def _ended(self, delivery: Delivery, status: int) -> None:
        delivery.agent = None
        delivery.status = status
        if delivery.pipe >= 0:
            self._listen(delivery)
        else:
            self._perhaps_over(delivery)

    def _perhaps_over(self, delivery: Delivery) -> None:
        if delivery.pipe < 0 and delivery.status is not None:
            self._follow(delivery, delivery.status)

    def _follow(self, delivery: Delivery, status: int) -> None:
        """Report, or go on to the next program."""
        then = delivery.run.done(status, delivery.output)
        if isinstance(then, bytes):
            self._finish(delivery, then)
        else:
            delivery.begin(then)
            self._begin(delivery)

    def _finish(self, delivery: Delivery, text: bytes) -> None:
        if delivery.message >= 0:
            os.close(delivery.message)
        del self._deliveries[delivery.slot]
        self._report(delivery.slot, text)
