"""Removing what a qmail-queue that died has left in mess/ and intd/: messages that never got into todo/."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from qmail.clean import OSSIFIED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmail.queueing.queue_layout import Queue
    from qmail.sending.cleaner import Cleaner
    from qmail.sending.log import Log

EVERY = 76431  # seconds: somewhat more than 21 hours
OPENDIR_PAUSE = 10  # seconds
BATCH = 50  # messages looked at between two looks at deliveries


class Sweep:
    """Looks at every message in mess/ now and then, a few at a `step`."""

    def __init__(self, queue: Queue, cleaner: Cleaner, log: Log, now: int) -> None:
        self._queue = queue
        self._cleaner = cleaner
        self._log = log
        self._numbers: Iterator[int] | None = None
        self._next = now

    def next_step(self) -> int:
        """When `step` has something to do; 0: now."""
        return 0 if self._numbers else self._next

    def step(self, now: int) -> None:
        if not self._numbers:
            if now < self._next:
                return
            self._next = now + EVERY
            self._numbers = self._all(now)
        some = list(itertools.islice(self._numbers, BATCH))
        old = [number for number in some if self._untouched(number, now)]
        if len(some) < BATCH:
            self._numbers = None
        if old:
            self._cleaner.drain()  # or what is being removed might go twice: the second time, its successor
            for number in old:
                if self._untouched(number, now) and self._stray(number):
                    self._cleaner.finish(number)
            self._cleaner.drain()

    def _all(self, now: int) -> Iterator[int]:
        for directory in self._queue.directories("mess"):
            try:
                with os.scandir(directory) as entries:
                    yield from (int(entry.name) for entry in entries if entry.name.isdecimal())
            except OSError:
                self._log.line(f"alert: unable to opendir {directory[2:]}, sleeping...".encode())
                self._next = now + OPENDIR_PAUSE

    def _untouched(self, number: int, now: int) -> bool:
        try:
            return os.stat(self._queue.mess(number)).st_atime + OSSIFIED < now
        except OSError:  # qmail-queue has thought better of it
            return False

    def _stray(self, number: int) -> bool:
        """Is it neither preprocessed nor to be?"""
        for path in (self._queue.info(number), self._queue.todo(number)):
            try:
                os.stat(path)
                return False
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True
