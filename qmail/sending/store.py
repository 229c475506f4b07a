"""The files in the queue that are qmail-send's own: info/, local/, remote/, bounce/.

Paths are relative to the queue.  What cannot be done is a warning in the log,
in the words of the original, and the caller is told.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qmail.sending.envelope import LONGEST, Records, sender_of
from supervise.durable import sync_directory, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qmail.queueing.queue_layout import Queue
    from qmail.sending.log import Log

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
CHUNK = 65536  # bytes
PAUSE = 10  # seconds
MODE = 0o600
HELP = b"alert: unable to append to bounce message; HELP! sleeping..."


class Draft:
    """The info/, local/ and remote/ files of one message, while it is preprocessed.

    `add` what belongs into them, then `sync`; a Draft that has failed (its
    `ok` is false) leaves files behind that the next try removes.
    """

    def __init__(self, store: Store, number: int) -> None:
        self._store = store
        self.number = number
        self.channels: set[int] = set()
        self.ok = True
        self._files: dict[str, int] = {}  # path: descriptor
        self._unwritten: dict[str, list[bytes]] = {}
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for path in self._store.paths(self.number):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError:
                self._fail("unable to unlink", path)
                return

    def add_sender(self, sender: bytes) -> None:
        self._add(self._store.queue.info(self.number), b"F%b\0" % sender)

    def add_recipient(self, channel: int, address: bytes) -> None:
        self.channels.add(channel)
        self._add(self._store.path(channel, self.number), b"T%b\0" % address)

    def _add(self, path: str, record: bytes) -> None:
        if not self.ok:
            return
        waiting = self._unwritten.get(path)
        if waiting is None:
            try:
                self._files[path] = os.open(path, CREATE, MODE)
            except OSError:
                self._fail("unable to create", path)
                return
            waiting = self._unwritten[path] = []
        waiting.append(record)
        if len(waiting) > 1000:
            self._write(path)

    def write(self) -> None:
        """Write all, and have the kernel start putting it on disk."""
        for path in list(self._files):
            self._write(path)

    def _write(self, path: str) -> None:
        if not self.ok:
            return
        try:
            write_all(self._files[path], b"".join(self._unwritten[path]))
            os.posix_fadvise(self._files[path], 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            self._fail("trouble writing to", path)
        self._unwritten[path] = []

    def sync(self) -> set[str]:
        """Wait until the content is on disk; return the directories that have new names."""
        for path, fd in self._files.items():
            try:
                os.fsync(fd)
            except OSError:
                self._fail("trouble fsyncing", path)
                break
        self.close()
        return {os.path.dirname(path) for path in self._unwritten}

    def _fail(self, action: str, path: str) -> None:
        self.ok = False
        self._store.log.warning(action, path)
        self.close()

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()


@dataclass(slots=True)
class Recipients:
    """Reads the recipients of one message from local/N or remote/N, or has them in memory still."""

    fd: int  # -1: all is in `_records`
    _records: list[bytes] = field(default_factory=list)
    _cutter: Records = field(default_factory=Records)
    _next: int = 0
    _place: int = 0

    def next(self) -> tuple[int, bytes] | None:
        """The place of the next record in the file, and the record; None at the end.

        Raises OSError, TooLong.
        """
        while self._next >= len(self._records):
            data = os.read(self.fd, CHUNK) if self.fd >= 0 else b""
            if not data:
                return None
            self._records = self._cutter.feed(data)
            self._next = 0
        record = self._records[self._next]
        place = self._place
        self._next += 1
        self._place += len(record) + 1
        return place, record

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Store:
    """The files of qmail-send in `queue`, which is the working directory."""

    def __init__(self, queue: Queue, log: Log) -> None:
        self.queue = queue
        self.log = log
        self._paths = (queue.local, queue.remote)

    def path(self, channel: int, number: int) -> str:
        """local/N or remote/N."""
        return self._paths[channel](number)

    def paths(self, number: int) -> tuple[str, str, str]:
        """Every file that preprocessing makes."""
        return self.queue.local(number), self.queue.remote(number), self.queue.info(number)

    def sync(self, drafts: Sequence[Draft]) -> None:
        """Put all of `drafts` on disk, files and names, sharing what can be shared; some may fail."""
        for draft in drafts:
            draft.write()
        directories = {draft: draft.sync() for draft in drafts}
        for directory in sorted(set().union(*directories.values())):
            try:
                sync_directory(directory)
            except OSError:
                self.log.warning("trouble fsyncing", directory)
                for draft in drafts:
                    draft.ok = draft.ok and directory not in directories[draft]

    def information(self, number: int) -> tuple[bytes, int] | None:
        """The sender of a message and when it came; None if info/N cannot be read or is damaged."""
        try:
            fd = os.open(self.queue.info(number), READ)
        except OSError:
            return None
        try:
            content = b""
            while b"\0" not in content and len(content) < LONGEST and (data := os.read(fd, CHUNK)):
                content += data
            sender = sender_of(content)
            return None if sender is None else (sender, int(os.fstat(fd).st_mtime))
        except OSError:
            return None
        finally:
            os.close(fd)

    def open_recipients(self, channel: int, number: int) -> Recipients:
        """Raises OSError."""
        return Recipients(os.open(self.path(channel, number), READ))

    def mark_done(self, channel: int, number: int, place: int) -> None:
        """Make a T a D, in place, so that this recipient is never tried again."""
        path = self.path(channel, number)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.pwrite(fd, b"D", place)
            finally:
                os.close(fd)
        except OSError:
            self.log.warning("trouble marking", path, "; message will be delivered twice!")

    def append_bounce(self, number: int, text: bytes) -> None:
        """Add to bounce/N, and do not come back before it is there: the recipient is marked done next."""
        path = self.queue.bounce(number)
        while True:
            try:
                fd = os.open(path, APPEND, MODE)
                try:
                    new = _append(fd, text)
                    self._sync_bounce(fd, path, new)
                finally:
                    os.close(fd)
                return
            except OSError:
                self.log.line(HELP)
                self.log.flush()
                time.sleep(PAUSE)

    def _sync_bounce(self, fd: int, path: str, new: bool) -> None:
        try:
            os.fsync(fd)
            if new:
                sync_directory(os.path.dirname(path))
        except OSError:  # final; but the text may well survive
            self.log.warning("trouble fsyncing", path)


def _append(fd: int, text: bytes) -> bool:
    """Append all of `text` or nothing; say whether it is the file's first."""
    before = os.fstat(fd).st_size
    try:
        write_all(fd, text)
    except OSError:
        os.ftruncate(fd, before)
        raise
    return before == 0


def chunks(path: str, most: int = 0) -> Iterator[bytes]:
    """The content of a file, piece by piece, at most `most` bytes if that is not 0.  Raises OSError."""
    fd = os.open(path, READ)
    try:
        left = most
        while data := os.read(fd, min(left, CHUNK) if most else CHUNK):
            yield data
            left -= len(data)
            if most and left <= 0:
                return
    finally:
        os.close(fd)
