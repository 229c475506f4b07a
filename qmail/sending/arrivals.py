"""From todo/ to the first try: what qmail-send does with a message that has just been queued.

A message with one recipient is tried at once, on the strength of todo/ alone,
which already is on disk.  If the try succeeds within a moment the message is
finished: todo/N goes, then the message, and info/, local/ and remote/ were
never needed.  All other messages are preprocessed as ever: info/N, local/N
and remote/N are written, many messages at a time so that they share the cost
of reaching the disk, and only then todo/N goes.

In a flood, messages wait in todo/ for a slot; what is more than fits into
memory is preprocessed at a bounded rate, so that mail for the other channel
is found among it, and deliveries do not stop for it.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from qmail.clean import OSSIFIED
from qmail.sending import schedule
from qmail.sending.envelope import TooLong
from qmail.sending.jobs import Job
from qmail.sending.store import CHUNK, READ, Draft
from qmail.sending.todo_reader import TodoReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qmail.sending.cleaner import Cleaner
    from qmail.sending.log import Log
    from qmail.sending.rewriting import Rewriting
    from qmail.sending.store import Store

LOOK_EVERY = 1500  # seconds: 25 minutes, trigger or no trigger
SYSTEM_PAUSE = 123  # seconds until a message that made trouble is looked at again
OPENDIR_PAUSE = 10  # seconds
MOMENT = 3  # seconds that a try may take before the message is preprocessed
BATCH = 50  # messages taken from todo/ between two looks at deliveries
OVERFLOW = 200  # messages of a flood that are preprocessed in a second
ENTRIES = 2000  # names looked at in that time


class Preprocessed(NamedTuple):
    """A message that has become info/N, local/N, remote/N.  Its recipients, unless there are many."""

    number: int
    sender: bytes
    birth: int
    channels: frozenset[int]
    recipients: tuple[tuple[int, bytes], ...] | None


class Arrivals:
    """The messages in todo/.

    `step` reads some and returns what is to be done with them; `settle`
    preprocesses jobs that turn out to take their time; `remove` takes those
    out of todo/ that are done.
    """

    def __init__(self, store: Store, cleaner: Cleaner, log: Log, suspects: set[int], now: int) -> None:
        self._store = store
        self._queue = store.queue
        self._cleaner = cleaner
        self._log = log
        self._suspects = suspects  # messages that may have files of a preprocessing that never ended
        self._in_memory: dict[int, Job] = {}  # unsettled jobs
        self._ages: deque[Job] = deque()  # those under way and some that are done with, oldest first
        self._resting: dict[int, int] = {}  # left alone until a time
        self._scan: Iterator[int] | None = None
        self._overflow = (now, 0)  # a second, and how many of a flood were preprocessed in it
        self._trigger = -1
        self._pulled = True
        self._next_look = now
        self.rewriting: Rewriting
        self._set_trigger()

    def _set_trigger(self) -> None:
        """Listen to the trigger.  Held open for writing too, it stays quiet when a writer goes."""
        self.close()
        for flags in (os.O_RDWR, os.O_RDONLY):
            try:
                self._trigger = os.open("lock/trigger", flags | os.O_NONBLOCK | os.O_CLOEXEC)
                return
            except OSError:
                continue

    def close(self) -> None:
        if self._trigger >= 0:
            os.close(self._trigger)
        self._trigger = -1

    def fileno(self) -> int:
        """The trigger: readable when there is something new in todo/.

        -1: there is no trigger, or it would be of no use before `next_step`.
        """
        return -1 if self._overflow[1] >= OVERFLOW else self._trigger

    def pull(self) -> None:
        """Look into todo/ at the next step."""
        self._pulled = True

    def wake(self) -> None:
        """Look into todo/, also at what made trouble."""
        self._resting.clear()
        self.pull()

    def next_step(self) -> int:
        """When `step` has something to do; 0: now."""
        if self._overflow[1] >= OVERFLOW:
            return self._overflow[0] + 1
        if self._scan or self._pulled:
            return 0
        oldest = self._ages[0].since + MOMENT if self._ages else self._next_look
        return min(oldest, self._next_look)

    def step(self, now: int, room: Sequence[int]) -> tuple[list[Job], list[Preprocessed]]:
        """Take some messages up.  Return jobs to be tried at once, and messages that were preprocessed.

        room: how many jobs of each channel may still wait in memory.
        """
        jobs: list[Job] = []
        drafts: list[tuple[Draft, Preprocessed]] = []
        left = list(room)
        for number in self._some(now):
            arrival = self._read(number, now)
            if isinstance(arrival, Preprocessed):
                job = self._at_once(arrival, left)
                if job:
                    jobs.append(job)
                else:
                    drafts.append((self._draft(arrival), arrival))
            elif arrival:
                drafts.append(arrival)
        self._age(now)
        done = self._preprocess([draft for draft, _ in drafts], now)
        return jobs, [arrival for _, arrival in drafts if arrival.number in done]

    # Looking into todo/

    def _some(self, now: int) -> list[int]:
        """Numbers of messages to take up now."""
        if self._overflow[0] != now:
            self._overflow = (now, 0)
        if self._overflow[1] >= OVERFLOW:
            return []
        if not self._scan:
            if not self._pulled and now < self._next_look:
                return []
            self._begin_scan(now)
        if not self._scan:
            return []
        names = 0
        found: list[int] = []
        for number in itertools.islice(self._scan, ENTRIES):
            names += 1
            if number not in self._in_memory and number not in self._resting:
                found.append(number)
                if len(found) == BATCH:
                    return found
        if names < ENTRIES:
            self._scan = None
        return found

    def _begin_scan(self, now: int) -> None:
        self._pulled = False
        self._next_look = now + LOOK_EVERY
        self._resting = {number: until for number, until in self._resting.items() if until > now}
        self._next_look = min([self._next_look, *self._resting.values()])
        try:
            while self._trigger >= 0 and len(os.read(self._trigger, CHUNK)) == CHUNK:
                pass
        except BlockingIOError:
            pass
        if self._trigger < 0:
            self._set_trigger()
        self._scan = self._numbers("todo", now)

    def _numbers(self, directory: str, now: int) -> Iterator[int]:
        """The messages in todo/, and in its subdirectories if there are any (big-todo), as names are read."""
        parts = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = entry.name
                    if not (name.isdecimal() and name.isascii()):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        parts.append(entry.path)
                    else:
                        yield int(name)
        except OSError:
            self._log.line(f"alert: unable to opendir {directory}, sleeping...".encode())
            self._next_look = min(self._next_look, now + OPENDIR_PAUSE)
        for part in parts:
            yield from self._numbers(part, now)

    # Reading one message

    def _read(self, number: int, now: int) -> Preprocessed | tuple[Draft, Preprocessed] | None:
        """Read todo/N; one that is long goes into a draft at once.  None: it made trouble, or is gone."""
        path = self._queue.todo(number)
        try:
            fd = os.open(path, READ)
        except FileNotFoundError:
            return None
        except OSError:
            self._trouble("unable to open", path, number, now)
            return None
        try:
            return self._read_open(number, fd, now)
        finally:
            os.close(fd)

    def _read_open(self, number: int, fd: int, now: int) -> Preprocessed | tuple[Draft, Preprocessed] | None:
        try:
            size = os.stat(self._queue.mess(number)).st_size
        except OSError as error:
            self._trouble("unable to stat", self._queue.mess(number), number, now)
            if isinstance(error, FileNotFoundError) and os.fstat(fd).st_mtime + OSSIFIED < now:
                self._cleaner.remove_todo([number])  # nothing can ever come of it
            return None
        self._log.line(b"new msg %d" % number)
        reader = TodoReader(number, size, self._log, self.rewriting)
        draft = None
        try:
            while (data := os.read(fd, CHUNK)) and not reader.complaint:
                reader.feed(data)
                if len(data) == CHUNK or draft:
                    draft = draft or Draft(self._store, number)
                    reader.empty_into(draft)
        except (OSError, TooLong):
            reader.complaint = "trouble reading"
        if reader.complaint or reader.head.sender is None:
            if draft:
                draft.close()
            self._trouble(reader.complaint or "trouble reading", self._queue.todo(number), number, now)
            return None
        if draft:
            draft.add_sender(reader.head.sender)
            return draft, Preprocessed(number, reader.head.sender, now, frozenset(draft.channels), None)
        recipients = tuple(reader.recipients)
        channels = frozenset(channel for channel, _ in recipients)
        return Preprocessed(number, reader.head.sender, now, channels, recipients)

    def _trouble(self, action: str, path: str, number: int, now: int) -> None:
        self._log.warning(action, path)
        self._suspects.add(number)
        self.rest(number, now)

    def rest(self, number: int, now: int) -> None:
        """Leave a message in todo/ alone for a while, then begin anew with it."""
        self._in_memory.pop(number, None)
        self._resting[number] = now + SYSTEM_PAUSE
        self._next_look = min(self._next_look, now + SYSTEM_PAUSE)

    # Trying before preprocessing

    def _at_once(self, arrival: Preprocessed, left: list[int]) -> Job | None:
        """A job for a message that may be tried before it is preprocessed."""
        if arrival.number in self._suspects or not arrival.recipients or len(arrival.recipients) > 1:
            return None
        ((channel, recipient),) = arrival.recipients
        if left[channel] <= 0:
            self._overflow = (self._overflow[0], self._overflow[1] + 1)
            return None
        left[channel] -= 1
        birth = arrival.birth
        retry = schedule.next_try(birth, birth, channel)
        job = Job(arrival.number, channel, arrival.sender, birth, retry, False, recipient, settled=False)
        job.complete = True  # its one recipient is all there is to try
        self._in_memory[job.number] = job
        return job

    def started(self, job: Job, now: int) -> None:
        """The try of an unsettled job begins."""
        job.since = now
        self._ages.append(job)

    def _age(self, now: int) -> None:
        """Preprocess the jobs whose try takes long; finish those that could not be before."""
        slow: list[Job] = []
        stuck: list[Job] = []
        while self._ages and (self._ages[0].since + MOMENT <= now or not self._held(self._ages[0])):
            job = self._ages.popleft()
            if self._held(job):
                (stuck if job.delivered else slow).append(job)
        self.settle(slow, now)
        self.remove(stuck, now)
        for job in stuck:
            if job.ended:
                self.end(job)

    def _held(self, job: Job) -> bool:
        return self._in_memory.get(job.number) is job

    def remove(self, jobs: Sequence[Job], now: int) -> None:
        """Take jobs that are delivered out of todo/; those that are out have `ended`.

        One that cannot be taken out stays in memory, lest it be tried again.
        """
        removed = self._cleaner.remove_todo([job.number for job in jobs])
        for job, out in zip(jobs, removed, strict=True):
            job.delivered = True
            job.ended = out
            if out:
                del self._in_memory[job.number]
            else:
                self._keep(job, now)

    def end(self, job: Job) -> None:
        """Have the message of a job that has `ended` removed: nothing in the queue needs it."""
        self._log.line(b"end msg %d" % job.number)
        self._cleaner.finish(job.number)

    def _keep(self, job: Job, now: int) -> None:
        job.since = now + SYSTEM_PAUSE
        self._in_memory[job.number] = job
        self._ages.append(job)

    def settle(self, jobs: Sequence[Job], now: int) -> None:
        """Preprocess jobs that are in memory only.  Whose `settled` is false afterwards is still in todo/."""
        arrivals = [
            Preprocessed(job.number, job.sender, job.birth, frozenset(), ((job.channel, job.recipient),))
            for job in jobs
        ]
        done = self._preprocess([self._draft(arrival) for arrival in arrivals], now)
        for job in jobs:
            if job.number in done:
                job.settled = True
                del self._in_memory[job.number]
            else:
                self._resting.pop(job.number, None)
                self._keep(job, now)

    # Preprocessing

    def _draft(self, arrival: Preprocessed) -> Draft:
        draft = Draft(self._store, arrival.number)
        draft.add_sender(arrival.sender)
        for channel, address in arrival.recipients or ():
            draft.add_recipient(channel, address)
        return draft

    def _preprocess(self, drafts: Sequence[Draft], now: int) -> set[int]:
        """Put drafts on disk and their messages out of todo/; return the numbers of those that went well."""
        if not drafts:
            return set()
        self._store.sync(drafts)
        written = [draft.number for draft in drafts if draft.ok]
        removed = self._cleaner.remove_todo(written)
        done = {number for number, out in zip(written, removed, strict=True) if out}
        self._suspects -= done
        for draft in drafts:
            if draft.number not in done:
                self._suspects.add(draft.number)
                self.rest(draft.number, now)
        return done
