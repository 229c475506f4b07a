"""qmail-send's side of the talk with qmail-clean, which removes what qmail-send may not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervise.durable import write_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmail.queueing.queue_layout import Queue
    from qmail.sending.log import Log

MOST_AT_ONCE = 500  # requests; they and their answers fit into the pipes, so nobody waits for ever
LOST = b"alert: oh no! lost qmail-clean connection! dying..."


class Cleaner:
    """Asks through `requests`, a descriptor; is answered, in the same order, through `answers`.

    `alive` is false once qmail-clean is gone: nothing is removed any more, and
    qmail-send is to stop.
    """

    def __init__(self, requests: int, answers: int, queue: Queue, log: Log) -> None:
        self._requests = requests
        self._answers = answers
        self._queue = queue
        self._log = log
        self._finished: list[bytes] = []  # asked for, not answered
        self.alive = True

    def fileno(self) -> int:
        return self._answers

    def remove_todo(self, numbers: Sequence[int]) -> list[bool]:
        """Remove todo/N and intd/N of messages; say of each whether that is done."""
        done: list[bool] = []
        for start in range(0, len(numbers), MOST_AT_ONCE):
            self.drain()
            names = [
                self._queue.todo(number)[2:].encode() for number in numbers[start : start + MOST_AT_ONCE]
            ]
            done += self._answered(names) if self._ask(names) else [False] * len(names)
        return done

    def finish(self, number: int) -> None:
        """Remove intd/N and mess/N.  The answer is taken later, by `drain`."""
        if len(self._finished) >= MOST_AT_ONCE:
            self.drain()
        name = b"foop/%d" % number
        if self._ask([name]):
            self._finished.append(name)

    def take_answers(self) -> None:
        """`fileno()` is readable: take what was answered, or notice that nobody answers any more."""
        if self._finished:
            self.drain()
        elif not os.read(self._answers, MOST_AT_ONCE):
            self._lose()

    def drain(self) -> None:
        """Wait until all that was asked for is done."""
        names, self._finished = self._finished, []
        self._answered(names)

    def _ask(self, names: Sequence[bytes]) -> bool:
        if not self.alive:
            return False
        try:
            write_all(self._requests, b"".join([name + b"\0" for name in names]))
        except OSError:
            self._lose()
        return self.alive

    def _answered(self, names: Sequence[bytes]) -> list[bool]:
        answers = b""
        while len(answers) < len(names) and self.alive:
            some = os.read(self._answers, len(names) - len(answers))
            answers += some
            if not some:
                self._lose()
        done = [answer == ord("+") for answer in answers]
        for name, removed in zip(names, done, strict=False):
            if not removed:
                self._log.line(b"warning: qmail-clean unable to clean up " + name)
        return done + [False] * (len(names) - len(done))

    def _lose(self) -> None:
        if self.alive:
            self._log.line(LOST)
        self.alive = False
