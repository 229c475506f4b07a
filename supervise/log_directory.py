"""A log as multilog keeps it: a directory with the file being written and the old ones.

lock      locked by the multilog that writes here
current   the file being written: mode 644 while it is, 744 once it is whole and on disk
@LABEL.s  an old file, whole; LABEL is the moment when it was full
@LABEL.u  an old file that a crash left, perhaps not whole
state     what the processor remembers from one file to the next
previous, processed, newstate   at work while the processor runs

Taking over from a C multilog, or leaving to it, is possible at any moment,
that of a crash included.
"""

from __future__ import annotations

import os
import stat

from supervise import chain, children, descriptors
from supervise.errors import reason
from supervise.locks import lock_exnb
from supervise.patience import patiently, pause, warn
from supervise.program import unable_to
from supervise.tai import LABEL_SIZE, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

NEAR = 2000
"""Bytes before the size where a newline is reason enough to end a file."""
OPEN, CLOSED = 0o644, 0o744
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
TRUNCATE = os.O_WRONLY | os.O_TRUNC | os.O_CREAT


def cut(data: bytes, start: int, room: int) -> tuple[int, bool]:
    """How many bytes of `data` from `start` on fit in a file with `room` bytes left; is it full then?

    A file ends at a newline in its last NEAR bytes, the last one of `data`, and
    only if there is none in the middle of a line.
    """
    left = len(data) - start
    if left < room - NEAR:
        return left, False
    first = start + max(room - NEAR, 1) - 1
    newline = data.rfind(b"\n", first, start + room)
    if newline < 0:
        return min(left, room), False
    return newline + 1 - start, True


def close(fd: int) -> None:
    """Close `fd`, which is closed after an error, too; what is to be on disk was synced before."""
    try:
        os.close(fd)
    except OSError:
        pass


class LogDirectory:
    """The log in `path`, locked and open for writing.  Fatal: it cannot be."""

    def __init__(self, path: str, size: int, count: int, processor: str | None) -> None:
        self._path = path
        self._size = size
        self._count = count
        self._processor = processor
        self._bytes = 0
        self._full = False
        self._current = self._lock = -1
        try:
            os.mkdir(path, 0o700)
        except OSError:  # mostly it is there; if not, opening it will say why
            pass
        with unable_to(f"open directory {path}"):
            self._directory = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with unable_to(f"open directory {path}"):
                os.stat(".", dir_fd=self._directory)  # as fchdir would
            self._take()
        except BaseException:
            self.release()
            raise

    def _take(self) -> None:
        """Lock the directory, put in order what a crash has left, and open current."""
        with unable_to(f"lock directory {self._path}"):
            self._lock = self._open("lock", APPEND)
            lock_exnb(self._lock)
        with unable_to(f"stat {self._path}/current"):
            current = self._stat("current")
        if current and current.st_mode & stat.S_IXUSR:
            self._bytes = current.st_size
            with unable_to(f"append to {self._path}/current"):
                self._current = self._open("current", APPEND)
            with unable_to(f"set mode of {self._path}/current"):
                os.fchmod(self._current, OPEN)
            return
        self._recover()
        with unable_to(f"write to {self._path}/state"):
            close(self._open("state", TRUNCATE))
        with unable_to(f"write to {self._path}/current"):
            self._current = self._open("current", APPEND)
        with unable_to(f"set mode of {self._path}/current"):
            os.fchmod(self._current, OPEN)

    def _recover(self) -> None:
        """After a crash: keep every line, as a file .s if it is surely whole, else .u."""
        self._forget("state")
        self._forget("newstate")
        with unable_to(f"stat {self._path}/processed"):
            processed = self._stat("processed")
        if processed and processed.st_mode & stat.S_IXUSR:
            self._forget("previous")
            self._retire("processed", "s")
        else:
            self._forget("processed")
            self._retire("previous", "u")
        self._retire("current", "u")

    # writing

    @property
    def room(self) -> int:
        """Bytes that may come before a new file, or into it; none on a disk that is nearly full."""
        try:
            disk = os.fstatvfs(self._directory)
        except OSError:
            return 0
        if disk.f_bavail * disk.f_frsize <= self._size:
            return 0
        return self._size - NEAR // 2 - (0 if self._full else self._bytes)

    def write(self, data: bytes) -> None:
        """Append `data`, beginning new files where the size demands it; it is not on disk yet.

        If the last file is full now, `settle` ends it: until then all of `data`
        has been written, but nothing that takes long has been done.
        """
        done, view = 0, memoryview(data)
        while done < len(data):
            if self._full or self._bytes >= self._size:
                self._rotate()
            length, self._full = cut(data, done, self._size - self._bytes)
            end = done + length
            while done < end:
                written = self._append(view[done:end])
                done += written
                self._bytes += written

    def settle(self) -> None:
        """End current if it is full."""
        if self._full:
            self._rotate()

    def _append(self, part: memoryview) -> int:
        return self._patiently("write to {}/current", lambda: os.write(self._current, part))

    def rotate(self) -> None:
        """End current, unless it is empty."""
        if self._bytes:
            self._rotate()

    def close(self) -> None:
        """Put current on disk and mark it whole; let the directory go."""
        self._sync()
        self._patiently("set mode of {}/current", lambda: os.fchmod(self._current, CLOSED))
        self.release()

    def release(self) -> None:
        """Let the directory go as a crash would."""
        for fd in (self._current, self._lock, self._directory):
            if fd >= 0:
                close(fd)
        self._current = self._lock = self._directory = -1

    # old files

    def _rotate(self) -> None:
        """Make current an old file.

        It is on disk before its name says so.  The names themselves need no
        fsync here: the file has one of them at every moment.
        """
        if self._processor is not None:
            self._rotate_through(self._processor)
            return
        self._start_writing()
        self._trim(coming=1)  # while the disk writes; after a crash current would take that place, too
        self._sync()
        self._patiently("set mode of {}/current", lambda: os.fchmod(self._current, CLOSED))
        self._rename("current", self._free_name("s"))
        self._begin()

    def _rotate_through(self, processor: str) -> None:
        """Make what `processor` makes of current an old file."""
        self._sync()
        self._rename("current", "previous")
        self._begin()
        self._patiently("set mode of {}/previous", lambda: self._chmod("previous", CLOSED))
        self._process(processor)

    def _sync(self) -> None:
        self._patiently("write {}/current to disk", lambda: os.fsync(self._current))

    def _start_writing(self) -> None:
        """Have Linux begin to write current to disk: the fsync to come will wait less."""
        try:
            os.posix_fadvise(self._current, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass

    def _begin(self) -> None:
        """Open a new current."""
        close(self._current)
        self._current = -1
        self._current = self._patiently("create {}/current", lambda: self._open("current", APPEND))
        self._bytes = 0
        self._full = False
        self._patiently("set mode of {}/current", lambda: os.fchmod(self._current, OPEN))

    def _process(self, processor: str) -> None:
        """Have `processor` turn previous into processed, and state into newstate; then retire it."""
        while not self._processor_succeeds(processor):
            pause(f"processor failed in {self._path}, pausing")
        self._finish_file("processed", CLOSED)
        self._finish_file("newstate", None)
        self._patiently("write {} to disk", lambda: os.fsync(self._directory))
        self._patiently("remove {}/previous", lambda: self._unlink("previous"))
        self._rename("newstate", "state")
        self._retire("processed", "s")

    def _processor_succeeds(self, processor: str) -> bool:
        pid = self._patiently(
            "fork for processor in {}",
            lambda: children.fork("multilog", lambda: self._run_processor(processor)),
        )
        try:
            code = children.wait(pid)
        except OSError as error:  # SIGCHLD was ignored when multilog started, say
            pause(f"wait failed for processor in {self._path}, pausing: {reason(error)}")
            return False
        if code < 0:
            pause(f"processor crashed in {self._path}, pausing")
        return code == 0

    def _run_processor(self, processor: str) -> int:
        """In the child: become the processor."""
        with unable_to(f"run {processor}"):
            os.fchdir(self._directory)
            descriptors.arrange(
                {
                    0: self._open("previous", os.O_RDONLY | os.O_NONBLOCK),
                    1: self._open("processed", TRUNCATE),
                    4: self._open("state", os.O_RDONLY | os.O_NONBLOCK),
                    5: self._open("newstate", TRUNCATE),
                }
            )
            chain.run(["/bin/sh", "-c", processor])

    def _finish_file(self, name: str, mode: int | None) -> None:
        """Put on disk what the processor has written to `name`, if only an empty file."""
        fd = self._patiently(f"create {{}}/{name}", lambda: self._open(name, APPEND))
        try:
            self._patiently(f"write {{}}/{name} to disk", lambda: os.fsync(fd))
            if mode is not None:
                self._patiently(f"set mode of {{}}/{name}", lambda: os.fchmod(fd, mode))
        finally:
            close(fd)

    def _retire(self, name: str, code: str) -> None:
        """Make `name` an old file, if it is there and is not one already."""
        status = self._look(name)
        if not status:
            return
        if status.st_nlink == 1:
            old = self._free_name(code)
            self._patiently(f"link to {{}}/{old}", lambda: self._link(name, old))
            self._patiently("write {} to disk", lambda: os.fsync(self._directory))
        self._patiently(f"remove {{}}/{name}", lambda: self._unlink(name))
        self._trim()

    def _trim(self, coming: int = 0) -> None:
        """Remove the oldest files, so that with current and those `coming` there are no more than `count`."""
        names = self._patiently("read {}", lambda: os.listdir(self._directory))
        old = sorted(name for name in names if name.startswith("@") and len(name) >= LABEL_SIZE)
        for name in old[: max(len(old) + coming + 1 - self._count, 0)]:
            try:
                self._unlink(name)
            except OSError as error:  # waiting would not help, and must not stop the log
                warn(f"unable to remove {self._path}/{name}: {reason(error)}")

    # the directory

    def _patiently(self, what: str, action: Callable[[], T]) -> T:
        return patiently(what.format(self._path), action)

    def _open(self, name: str, flags: int) -> int:
        mode = 0o644 if flags == TRUNCATE else 0o600  # as the original's
        return os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=self._directory)

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._directory)
        except FileNotFoundError:
            return None

    def _chmod(self, name: str, mode: int) -> None:
        os.chmod(name, mode, dir_fd=self._directory)

    def _unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._directory)

    def _forget(self, name: str) -> None:
        try:
            self._unlink(name)
        except OSError:
            pass

    def _link(self, name: str, other: str) -> None:
        os.link(name, other, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _rename(self, old: str, new: str) -> None:
        def rename() -> None:
            os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

        self._patiently(f"rename {old} to {new} in directory {{}}", rename)

    def _free_name(self, code: str) -> str:
        """A name for an old file that is not taken."""
        while True:
            name = f"{now().decode()}.{code}"
            if not self._look(name):
                return name

    def _look(self, name: str) -> os.stat_result | None:
        return self._patiently(f"stat {{}}/{name}", lambda: self._stat(name))
