"""The tables of qmail-send: what is to be tried when, what is under way, and what comes of it."""

from __future__ import annotations

import heapq
import os
from collections import deque
from typing import TYPE_CHECKING

from qmail.sending import backlog, bounces, schedule
from qmail.sending.arrivals import SYSTEM_PAUSE
from qmail.sending.backlog import Found
from qmail.sending.envelope import TooLong
from qmail.sending.jobs import Delivery, Job
from qmail.sending.log import safe
from qmail.sending.notices import send_notice
from qmail.sending.rewriting import sender_for
from qmail.sending.store import Recipients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmail.sending.arrivals import Arrivals, Preprocessed
    from qmail.sending.channel import Channel
    from qmail.sending.cleaner import Cleaner
    from qmail.sending.log import Log
    from qmail.sending.settings import Settings
    from qmail.sending.store import Store
    from qmail.spawning.orders import Report

MOST_WAITING = 10_000  # jobs of a channel that wait in memory for a slot
MOST_REMEMBERED = 1000  # messages whose recipients need not be read back
DONE_AT_ONCE = 20  # messages finished between two looks at deliveries

Fresh = tuple[bytes, int, list[bytes]]  # sender, birth, records


class Manager:
    """Everything qmail-send knows, but what is in todo/.

    Heaps hold (when, message): `_due` a channel's next tries, `_done` messages
    without recipients left, `_unknown` those that could not be looked at.
    """

    def __init__(
        self,
        store: Store,
        cleaner: Cleaner,
        log: Log,
        channels: Sequence[Channel],
        settings: Settings,
        home: str,
    ) -> None:
        self._store = store
        self._cleaner = cleaner
        self._log = log
        self._channels = channels
        self._home = home
        self.settings = settings
        self.arrivals: Arrivals
        self.exiting = False
        self._due: tuple[list[tuple[int, int]], ...] = ([], [])
        self._done: list[tuple[int, int]] = []
        self._unknown: list[tuple[int, int]] = []
        self._waiting: tuple[deque[Job], ...] = (deque(), deque())
        self._passes: list[tuple[Job, Recipients] | None] = [None, None]
        self._fresh: dict[tuple[int, int], Fresh] = {}
        self._old_first = [False, False]
        self._serial = 0

    # What there is to do

    def add_found(self, found: Found | backlog.Unknown | None, now: int) -> None:
        """Take in a message of the backlog."""
        if not found:
            return
        if not isinstance(found, Found):
            heapq.heappush(self._unknown, (now + SYSTEM_PAUSE, found.number))
            return
        for index, when in enumerate(found.due):
            if when is not None:
                heapq.heappush(self._due[index], (when, found.number))
        if found.due == (None, None):
            heapq.heappush(self._done, (now, found.number))

    def add_preprocessed(self, message: Preprocessed, now: int) -> None:
        """Take in a message that just came."""
        for index in message.channels:
            heapq.heappush(self._due[index], (now, message.number))
            if message.recipients is not None and len(self._fresh) < MOST_REMEMBERED:
                records = [b"T" + address for at, address in message.recipients if at == index]
                self._fresh[index, message.number] = (message.sender, message.birth, records)
        if not message.channels:
            heapq.heappush(self._done, (now, message.number))

    def add_waiting(self, job: Job) -> None:
        """Take in a job that need not be preprocessed if it is quick."""
        self._waiting[job.channel].append(job)

    def room(self) -> list[int]:
        """How many more jobs of each channel may wait."""
        return [
            MOST_WAITING - len(waiting) if way.alive and way.concurrency else 0
            for waiting, way in zip(self._waiting, self._channels, strict=True)
        ]

    def run_all(self, now: int) -> None:
        """Everything is due now."""
        for due in self._due:
            due[:] = sorted((now, number) for _, number in due)

    def next_step(self) -> float:
        """When there will be something to do, if nothing happens before; 0: now."""
        times: list[float] = [heap[0][0] for heap in (self._done, self._unknown) if heap]
        if not self.exiting:
            for index, way in enumerate(self._channels):
                if way.available():
                    if self._waiting[index] or self._passes[index]:
                        return 0
                    times += [due[0] for due in self._due[index][:1]]
        return min(times, default=float("inf"))

    def can_exit(self) -> bool:
        """Has every delivery been reported that ever will be?"""
        return not any(way.alive and way.used for way in self._channels)

    # Starting deliveries

    def fill(self, now: int) -> None:
        """Start deliveries in free slots: new messages and old ones by turns."""
        for index, way in enumerate(self._channels):
            while way.available() and not self.exiting:
                self._old_first[index] = not self._old_first[index]
                if self._old_first[index]:
                    progress = self._start_old(index, now) or self._start_waiting(index, now)
                else:
                    progress = self._start_waiting(index, now) or self._start_old(index, now)
                if not progress:
                    break

    def _start_waiting(self, index: int, now: int) -> bool:
        if not self._waiting[index]:
            return False
        job = self._waiting[index].popleft()
        job.unfinished = 1
        self.arrivals.started(job, now)
        self._start(Delivery(self._next_serial(), job, 0, job.recipient))
        return True

    def _start_old(self, index: int, now: int) -> bool:
        """Go on with the pass through a message's recipients, or begin one.  False: nothing is due."""
        reading = self._passes[index] or self._open_pass(index, now)
        self._passes[index] = reading
        if not reading:
            return False
        job, recipients = reading
        try:
            record = recipients.next()
        except (OSError, TooLong):
            path = self._store.path(index, job.number)
            self._log.warning("trouble reading", path, "; will try again later")
            self._end_pass(index, now)
            return True
        if not record:
            job.complete = True
            self._end_pass(index, now)
            return True
        place, text = record
        if text.startswith(b"T"):
            job.refs += 1
            job.unfinished += 1
            self._start(Delivery(self._next_serial(), job, place, text[1:]))
        elif not text.startswith(b"D"):
            self._log.warning("unknown record type in", self._store.path(index, job.number), "!")
            self._end_pass(index, now)
        return True

    def _open_pass(self, index: int, now: int) -> tuple[Job, Recipients] | None:
        due = self._due[index]
        while due and due[0][0] <= now:
            number = heapq.heappop(due)[1]
            sender, birth, recipients = self._recipients(index, number)
            if recipients:
                retry = schedule.next_try(birth, now, index)
                dying = now > birth + self.settings.lifetime
                return Job(number, index, sender, birth, retry, dying), recipients
            path = self._store.path(index, number)
            self._log.warning("trouble opening", path, "; will try again later")
            heapq.heappush(due, (now + SYSTEM_PAUSE, number))
        return None

    def _recipients(self, index: int, number: int) -> tuple[bytes, int, Recipients | None]:
        fresh = self._fresh.pop((index, number), None)
        if fresh:
            return fresh[0], fresh[1], Recipients(-1, fresh[2])
        try:
            recipients = self._store.open_recipients(index, number)
        except OSError:
            return b"", 0, None
        known = self._store.information(number)
        if known:
            return *known, recipients
        recipients.close()
        return b"", 0, None

    def _end_pass(self, index: int, now: int) -> None:
        reading = self._passes[index]
        if reading:
            job, recipients = reading
            self._passes[index] = None
            recipients.close()
            self._release(job, now)

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _start(self, delivery: Delivery) -> None:
        job = delivery.job
        way = self._channels[job.channel]
        sender = sender_for(job.sender, delivery.recipient)
        way.start(delivery, self._store.queue.split_name(job.number), sender, delivery.recipient)
        self._log.line(
            b"starting delivery %d: msg %d to %b %b"
            % (delivery.serial, job.number, way.name, safe(delivery.recipient))
        )
        self.log_status()

    def log_status(self) -> None:
        local, remote = self._channels
        self._log.line(
            b"status: local %d/%d remote %d/%d%b"
            % (
                local.used,
                local.concurrency,
                remote.used,
                remote.concurrency,
                b" exitasap" if self.exiting else b"",
            )
        )

    # What comes of them

    def take_reports(self, way: Channel, reports: Sequence[Report], now: int) -> None:
        """Record what a spawner reports, first on disk, then in the log."""
        self._secure(way, reports, now)
        for report in reports:
            delivery = way.peek(report.slot)
            if not delivery:
                self._log.line(b"warning: internal error: delivery report out of range")
                continue
            self._take(delivery, report.text)
            way.release(report.slot)
            self._release(delivery.job, now)
            self.log_status()
            if delivery.job.ended:
                self.arrivals.end(delivery.job)

    def _secure(self, way: Channel, reports: Sequence[Report], now: int) -> None:
        """Of messages that only todo/ knows of, take out the delivered ones, and preprocess the others."""
        delivered: list[Job] = []
        others: list[Job] = []
        for report in reports:
            delivery = way.peek(report.slot)
            if delivery and not delivery.job.settled:
                (delivered if report.text.startswith(b"K") else others).append(delivery.job)
        if delivered:
            self.arrivals.remove(delivered, now)
        if others:
            self.arrivals.settle(others, now)

    def _take(self, delivery: Delivery, text: bytes) -> None:
        job = delivery.job
        verdict, text = text[:1], text[1:]
        if verdict == b"Z" and job.dying:
            verdict, text = b"D", text + bounces.TOO_LONG
        if verdict == b"K":
            self._log.line(b"delivery %d: success: %b" % (delivery.serial, safe(text)))
            self._mark(delivery)
        elif verdict == b"Z":
            self._log.line(b"delivery %d: deferral: %b" % (delivery.serial, safe(text)))
        elif verdict == b"D":
            self._log.line(b"delivery %d: failure: %b" % (delivery.serial, safe(text)))
            if job.settled:
                recipient = self.settings.rewriting.original(delivery.recipient)
                self._store.append_bounce(job.number, bounces.paragraph(recipient, text))
                self._mark(delivery)
        else:
            self._log.line(b"delivery %d: report mangled, will defer" % delivery.serial)

    def _mark(self, delivery: Delivery) -> None:
        """This recipient is done with: mark him, unless the whole file goes in a moment."""
        job = delivery.job
        job.unfinished -= 1
        if job.complete and not job.unfinished:
            job.unmarked = delivery.place
        elif job.settled:
            self._store.mark_done(job.channel, job.number, delivery.place)

    def _release(self, job: Job, now: int) -> None:
        """One user of the job less.  After the last, see what becomes of the message on this channel."""
        job.refs -= 1
        if job.refs:
            return
        if not job.settled:
            if not job.delivered:  # nor could it be preprocessed: begin anew, later
                self.arrivals.rest(job.number, now)
            return
        when = job.retry
        if job.complete and not job.unfinished:
            path = self._store.path(job.channel, job.number)
            try:
                os.unlink(path)
            except OSError:
                self._log.warning("unable to unlink", path, "; will try again later")
                when = now + SYSTEM_PAUSE
                if job.unmarked >= 0:
                    self._store.mark_done(job.channel, job.number, job.unmarked)
            else:
                if not self._goes_on(1 - job.channel, job.number):
                    heapq.heappush(self._done, (now, job.number))
                return
        heapq.heappush(self._due[job.channel], (when, job.number))

    def _goes_on(self, index: int, number: int) -> bool:
        """Has the message recipients on this channel?"""
        path = self._store.path(index, number)
        try:
            os.stat(path)
        except FileNotFoundError:
            return False
        except OSError:
            self._log.warning("unable to stat", path)
            return False
        return True

    # The end of messages

    def finish(self, now: int) -> None:
        """Finish messages that have no recipients left; look again at those that made trouble."""
        for _ in range(DONE_AT_ONCE):
            if not self._done or self._done[0][0] > now:
                break
            number = heapq.heappop(self._done)[1]
            if not self._finish(number, now):
                heapq.heappush(self._done, (now + SYSTEM_PAUSE, number))
        while self._unknown and self._unknown[0][0] <= now:
            self.add_found(backlog.look(self._store, heapq.heappop(self._unknown)[1]), now)

    def _finish(self, number: int, now: int) -> bool:
        """Take a message out of the queue; False: try again later."""
        queue = self._store.queue
        present: list[bool] = []
        for path in (queue.local(number), queue.remote(number), queue.todo(number), queue.info(number)):
            try:
                os.stat(path)
                present.append(True)
            except FileNotFoundError:
                present.append(False)
            except OSError:
                self._log.warning("unable to stat", path, "; will try again later")
                return False
            if present[:3].count(True):
                return True  # a false alarm: somebody could not stat, or preprocessing begins anew
        if not present[3]:
            return True
        if not send_notice(self._store, self._home, self.settings.postmaster, number, now):
            return False
        self._log.line(b"end msg %d" % number)
        try:
            os.unlink(queue.info(number))
        except OSError:
            self._log.warning("unable to unlink", queue.info(number), "; will try again later")
            return False
        self._cleaner.finish(number)
        return True

    def save(self) -> None:
        """Leave the times of the next tries where the next qmail-send finds them."""
        for index, due in enumerate(self._due):
            for when, number in due:
                path = self._store.path(index, number)
                try:
                    os.utime(path, (when, when))
                except OSError:
                    self._log.warning("unable to utime", path, "; message will be retried too soon")
        for reading in self._passes:
            if reading:
                reading[1].close()
