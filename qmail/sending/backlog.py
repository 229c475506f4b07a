"""What was in the queue before: found at the start, with a look at each message's recipients only."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmail.sending.store import Store

OPENDIR_PAUSE = 10  # seconds


class Found(NamedTuple):
    """A preprocessed message: when to try it, by channel; None where it has no recipients to try."""

    number: int
    due: tuple[int | None, int | None]


class Unknown(NamedTuple):
    """A message that cannot be looked at now."""

    number: int


def look(store: Store, number: int) -> Found | Unknown | None:
    """Look at one message; None: it is not preprocessed, or not in the queue at all."""
    path = store.queue.info(number)
    try:
        if not _modified(path):
            return None
        path = store.queue.todo(number)
        if _modified(path):
            return None  # preprocessing did not come to its end
        due: list[int | None] = []
        for channel in (0, 1):
            path = store.path(channel, number)
            when = _modified(path)
            due.append(when[0] if when else None)
    except OSError:
        store.log.warning("unable to stat", path, "; will try again later")
        return Unknown(number)
    return Found(number, (due[0], due[1]))


def _modified(path: str) -> tuple[int] | None:
    """A file's modification time; None if there is no such file."""
    try:
        return (int(os.stat(path).st_mtime),)
    except FileNotFoundError:
        return None


class Backlog:
    """Iterate over what is in the queue; then `suspects` are those with files of a broken preprocessing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.suspects: set[int] = set()

    def __iter__(self) -> Iterator[Found | Unknown]:
        queue = self._store.queue
        todo: set[int] = set()
        for directory in queue.directories("todo"):
            todo |= self._names(directory)
        kinds = [queue.directories(kind) for kind in ("info", "local", "remote")]
        for info, local, remote in zip(*kinds, strict=True):
            yield from self._part(todo, self._names(info), self._names(local), self._names(remote))

    def _part(
        self, todo: set[int], info: set[int], local: set[int], remote: set[int]
    ) -> Iterator[Found | Unknown]:
        preprocessed = info - todo
        self.suspects |= (info | local | remote) - preprocessed
        for number in preprocessed:
            try:
                yield Found(number, (self._due(0, number, local), self._due(1, number, remote)))
            except OSError:
                found = look(self._store, number)
                if found:
                    yield found

    def _due(self, channel: int, number: int, present: set[int]) -> int | None:
        if number not in present:
            return None
        return int(os.stat(self._store.path(channel, number)).st_mtime)

    def _names(self, directory: str) -> set[int]:
        while True:
            try:
                names = os.listdir(directory)
                return {int(name) for name in names if name.isdecimal() and name.isascii()}
            except OSError:
                self._store.log.line(
                    f"alert: unable to opendir {directory.removeprefix('./')}, sleeping...".encode()
                )
                self._store.log.flush()
                time.sleep(OPENDIR_PAUSE)
