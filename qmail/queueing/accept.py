"""The queue's commit: a message goes in whole, and what is reported as queued survives a power cut.

Message and envelope are written to files without a name.  When both are
complete they get the names mess/N, N being the message's inode number, and
intd/N.  Both files and mess/'s directory are synced before the link to
todo/N, and todo/'s directory before anybody hears that the message is queued.
A failed fsync is never tried again: the message is refused.  A message that
is given up before its link in todo/ is removed; after that it may already be
qmail-send's, and only the link is taken back.

A file system that knows no files without a name gets them in pid/ and intd/,
as the original's.
"""

from __future__ import annotations

import os
import stat
import time

from qmail.queueing.gathering import Gathering
from qmail.queueing.verdicts import (
    BAD_INTD,
    BAD_MESS,
    BAD_PID,
    BAD_TODO,
    OUT_OF_MEMORY,
    QUEUED,
    WRITE_ERROR,
    Refused,
)
from qmail.receiving import received
from supervise.durable import sync_directory, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from qmail.queueing.queue_layout import Queue

MODE = 0o644
PID_ATTEMPTS = 9
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
UNNAMED = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC


class refusing:
    """Make an OSError of the block a refusal with `code`; out of memory has its own."""

    __slots__ = ("_code",)

    def __init__(self, code: int) -> None:
        self._code = code

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, MemoryError):
            raise Refused(OUT_OF_MEMORY) from error
        if isinstance(error, OSError):
            raise Refused(self._code) from error


class Entry:
    """A message on its way into `queue`, put there by process `pid` of user `uid`.

    Every method may raise Refused; then, or to give it up, call `abandon`.
    `commit` ends it well.  `when`: seconds since 1970; `role`: see received.queued.
    """

    def __init__(self, queue: Queue, pid: int, uid: int, when: int, role: bytes = b"") -> None:
        self._queue = queue
        local_time = received.in_local_time(os.path.dirname(queue.path))
        self._gathering = Gathering(received.queued(pid, uid, when, role, local_time))
        self._heading = b"u%d\0p%d\0" % (uid, pid)
        self._nursery = f"{queue.path}/mess/{time.monotonic_ns() // 1000 % queue.split}"
        self._intd = -1
        self._has_mess = self._has_intd = self._has_todo = False  # files of that name, to be removed
        self._mess = self._create(when)
        try:
            with refusing(BAD_PID):
                self._identify()
        except Refused:
            self.abandon()
            raise

    def _create(self, when: int) -> int:
        """A file without a name, or one in pid/."""
        try:
            return os.open(self._nursery, UNNAMED, MODE)
        except OSError:
            pass  # unknown to this file system, or a lasting trouble, which the old way will meet as well
        for attempt in range(1, PID_ATTEMPTS + 1):
            self._pid_file = f"{self._queue.path}/pid/{os.getpid()}.{when}.{attempt}"
            try:
                return os.open(self._pid_file, CREATE, MODE)
            except OSError:
                continue
        raise Refused(BAD_PID)

    def _identify(self) -> None:
        found = os.fstat(self._mess)
        self.number = found.st_ino
        self._is_public = stat.S_IMODE(found.st_mode) == MODE
        self._owner = -1
        if found.st_uid == 0:  # root queues for the queue's owner, as if setuid
            self._owner = os.stat(f"{self._queue.path}/pid").st_uid
        self._own(self._mess)
        if found.st_nlink:
            self._leave_pid()

    def _own(self, fd: int) -> None:
        """Give a file the mode and owner that the umask and root's rights did not."""
        if not self._is_public:
            os.fchmod(fd, MODE)
        if self._owner > 0:
            os.fchown(fd, self._owner, -1)

    def _leave_pid(self) -> None:
        try:
            with refusing(BAD_MESS):
                os.link(self._pid_file, self._queue.mess(self.number))
            self._has_mess = True
        finally:
            os.unlink(self._pid_file)

    def write(self, data: bytes) -> None:
        """Add to the message."""
        self._put(self._gathering.add(data))

    def _put(self, data: bytes) -> None:
        if data:
            with refusing(WRITE_ERROR):
                write_all(self._mess, data)

    def end_message(self) -> None:
        """The message is complete; its envelope comes next."""
        self._put(self._gathering.take())
        with refusing(BAD_INTD):
            try:
                self._intd = os.open(self._nursery, UNNAMED, MODE)
            except OSError:
                self._intd = os.open(self._queue.intd(self.number), CREATE, MODE)
                self._has_intd = True
            self._own(self._intd)

    def write_envelope(self, data: bytes | bytearray | memoryview) -> None:
        """Add to the envelope: `F` sender NUL, `T` recipient NUL ..., without the final NUL."""
        with refusing(WRITE_ERROR):
            if self._heading:
                heading, self._heading = self._heading, b""
                data = b"".join([heading, data])
            write_all(self._intd, data)

    def begin_sync(self) -> None:
        """Give message and envelope their names, and have the disk begin to write them.

        What is begun before the first fsync shares its journal commit: this
        makes committing one message up to twice as fast, and many together
        three times.
        """
        if not self._has_mess:
            with refusing(BAD_MESS):
                name_file(self._mess, self._queue.mess(self.number))
            self._has_mess = True
        if not self._has_intd:
            with refusing(BAD_INTD):
                name_file(self._intd, self._queue.intd(self.number))
            self._has_intd = True
        with refusing(WRITE_ERROR):
            for fd in (self._mess, self._intd):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Put message and envelope on disk."""
        with refusing(WRITE_ERROR):
            os.fsync(self._mess)
            os.fsync(self._intd)
        with refusing(BAD_MESS):
            sync_directory(os.path.dirname(self._queue.mess(self.number)))

    def publish(self) -> None:
        """Make the link that makes it a queued message; it may still be lost in a power cut."""
        with refusing(BAD_TODO):
            os.link(self._queue.intd(self.number), self._queue.todo(self.number))
        self._has_todo = True

    def commit(self) -> int:
        """Queue it; return qmail-queue's exit code: 0 if it is queued, and will stay so.  Never raises."""
        return commit(self._queue, [self])[0]

    def close(self) -> None:
        """Close the files."""
        for fd in (self._mess, self._intd):
            if fd >= 0:
                os.close(fd)
        self._mess = self._intd = -1

    def abandon(self) -> None:
        """Take the message back.  Never raises; what cannot be removed is qmail-clean's, after 36 hours."""
        try:
            if self._has_todo:
                os.unlink(self._queue.todo(self.number))
            else:
                if self._has_intd:
                    os.unlink(self._queue.intd(self.number))
                if self._has_mess:
                    os.unlink(self._queue.mess(self.number))
        except OSError:
            pass
        self.close()


def name_file(fd: int, path: str) -> None:
    """Give the file without a name one: linkat(2), which follows /proc's link to the open file.

    os.link asks for that only if it is also given a directory, which an
    absolute path makes meaningless.
    """
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def commit(queue: Queue, entries: Sequence[Entry]) -> list[int]:
    """Queue the complete `entries`, several at once, for they share what the disk does.

    Returns the exit code for each: 0 if it is queued and will stay so.
    """
    codes = [QUEUED] * len(entries)
    for step in (Entry.begin_sync, Entry.sync, Entry.publish):
        codes = [code or _attempt(entry, step) for code, entry in zip(codes, entries, strict=True)]
    published = [entry for code, entry in zip(codes, entries, strict=True) if code == QUEUED]
    synced = {directory: _sync_todo(directory) for directory in _todo_directories(queue, published)}
    for place, entry in enumerate(entries):
        codes[place] = codes[place] or synced[os.path.dirname(queue.todo(entry.number))]
        if codes[place] == QUEUED:
            entry.close()
        else:
            entry.abandon()
    if published:
        queue.pull_trigger()
    return codes


def _attempt(entry: Entry, step: Callable[[Entry], None]) -> int:
    try:
        step(entry)
    except Refused as refused:
        return refused.code
    return QUEUED


def _todo_directories(queue: Queue, entries: Iterable[Entry]) -> set[str]:
    return {os.path.dirname(queue.todo(entry.number)) for entry in entries}


def _sync_todo(directory: str) -> int:
    try:
        sync_directory(directory)
    except OSError:
        return BAD_TODO
    return QUEUED
