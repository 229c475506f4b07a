"""The queue on disk: its directories, the names in them, how an empty one is made.

A message's number is the inode number of its file in mess/.  mess/, info/,
local/ and remote/ are split: message 457 is mess/(457 modulo the split)/457.
todo/ and intd/ are flat, or split as well by the big-todo patch; both are
recognised by what is on disk.  docs/QUEUE.md tells what the files mean.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SPLIT = 23
"""How many subdirectories a new queue's split directories have: qmail's conf-split."""
TCPTO_SIZE = 1024  # bytes
ALWAYS_SPLIT = ("mess", "info", "local", "remote")
SPLIT_BY_BIG_TODO = ("intd", "todo")
LONG = (sys.maxsize.bit_length() + 1) // 8  # bytes; what the numbers below say of a flag word of four
GET_FLAGS = 2 << 30 | LONG << 16 | 0x6601  # FS_IOC_GETFLAGS
SET_FLAGS = 1 << 30 | LONG << 16 | 0x6602  # FS_IOC_SETFLAGS
TOP_DIRECTORY = 0x20000  # as by chattr +T
DIRECTORIES = {  # name: (owner, mode)
    "pid": ("qmailq", 0o700), "intd": ("qmailq", 0o700), "todo": ("qmailq", 0o750),
    "bounce": ("qmails", 0o700), "mess": ("qmailq", 0o750), "info": ("qmails", 0o700),
    "local": ("qmails", 0o700), "remote": ("qmails", 0o700), "lock": ("qmailq", 0o750),
}  # fmt: skip
LOCK_FILES = {  # name: (owner, mode, is it a fifo?)
    "tcpto": ("qmailr", 0o644, False), "sendmutex": ("qmails", 0o600, False),
    "trigger": ("qmails", 0o622, True),
}  # fmt: skip


class Queue:
    """One queue directory.  Paths begin with `path` as it was given."""

    __slots__ = ("big_todo", "path", "split")

    def __init__(self, path: str, split: int = SPLIT, big_todo: bool = False) -> None:
        self.path = path
        self.split = split
        self.big_todo = big_todo

    @classmethod
    def recognise(cls, path: str) -> Queue:
        """The queue in `path`, laid out as it is found there.  Raises OSError."""
        names = [name for name in os.listdir(f"{path}/mess") if name.isdecimal()]
        return cls(path, len(names) or SPLIT, os.path.isdir(f"{path}/todo/0"))

    def split_name(self, number: int) -> str:
        """`12/457`: how a message is named to qmail-lspawn and qmail-clean."""
        return f"{number % self.split}/{number}"

    def mess(self, number: int) -> str:
        """The message itself."""
        return f"{self.path}/mess/{number % self.split}/{number}"

    def intd(self, number: int) -> str:
        """The envelope as qmail-queue writes it."""
        return self._new("intd", number)

    def todo(self, number: int) -> str:
        """The same envelope, for qmail-send to take up."""
        return self._new("todo", number)

    def info(self, number: int) -> str:
        """The envelope sender, once qmail-send has taken the message up."""
        return f"{self.path}/info/{number % self.split}/{number}"

    def local(self, number: int) -> str:
        """The local recipients and how far each has come."""
        return f"{self.path}/local/{number % self.split}/{number}"

    def remote(self, number: int) -> str:
        """The remote recipients and how far each has come."""
        return f"{self.path}/remote/{number % self.split}/{number}"

    def bounce(self, number: int) -> str:
        """The failures that are still to be reported to the sender."""
        return f"{self.path}/bounce/{number}"

    def lock(self, name: str) -> str:
        """`sendmutex`, `tcpto` or `trigger`."""
        return f"{self.path}/lock/{name}"

    def _new(self, kind: str, number: int) -> str:
        place = f"{number % self.split}/{number}" if self.big_todo else number
        return f"{self.path}/{kind}/{place}"

    def directories(self, kind: str) -> list[str]:
        """The directories that hold the files of a kind, such as "mess" or "todo"."""
        if kind in ALWAYS_SPLIT or (self.big_todo and kind in SPLIT_BY_BIG_TODO):
            return [f"{self.path}/{kind}/{part}" for part in range(self.split)]
        return [f"{self.path}/{kind}"]

    def numbers(self, kind: str) -> Iterator[int]:
        """The numbers of the messages that have a file of a kind, as the directories list them.

        Names that are no message's are left out.  Raises OSError.
        """
        for directory in self.directories(kind):
            for name in os.listdir(directory):
                if name.isdecimal() and name.isascii():
                    yield int(name)

    def pull_trigger(self) -> None:
        """Tell qmail-send that there is something in todo/.  If nobody listens, it will look by itself."""
        try:
            fd = os.open(self.lock("trigger"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.write(fd, b"\0")
        except OSError:
            pass
        finally:
            os.close(fd)


class Owners:
    """Whose the parts of a system's queue are: the uids of qmailq, qmails, qmailr, the gid of qmail."""

    __slots__ = ("qmail", "qmailq", "qmailr", "qmails")

    def __init__(self, qmailq: int, qmails: int, qmailr: int, qmail: int) -> None:
        self.qmailq = qmailq
        self.qmails = qmails
        self.qmailr = qmailr
        self.qmail = qmail


def create(path: str, owners: Owners | None = None, split: int = SPLIT, big_todo: bool = False) -> None:
    """Make an empty queue, or what is missing of one; what is there stays as it is.

    Without `owners` all of it is the caller's, as in a private instance.
    """
    maker = _Maker(path, owners)
    parts = [f"/{number}" for number in range(split)]
    maker.directory("", "qmailq", 0o750)
    spread(path)
    for kind, (owner, mode) in DIRECTORIES.items():
        maker.directory(f"/{kind}", owner, mode)
        if kind in ALWAYS_SPLIT or (big_todo and kind in SPLIT_BY_BIG_TODO):
            spread(f"{path}/{kind}")
            for part in parts:
                maker.directory(f"/{kind}{part}", owner, mode)
    for name, (owner, mode, is_fifo) in LOCK_FILES.items():
        if is_fifo:
            maker.fifo(f"/lock/{name}", owner, mode)
        else:
            maker.file(f"/lock/{name}", owner, mode, TCPTO_SIZE if name == "tcpto" else 0)


def spread(path: str) -> None:
    """Ask a file system of the ext family to put the subdirectories to come far from each other.

    A file's inode is near its directory.  An ext4 without a journal passes
    over those of files removed in the last minutes, one by one: with a queue
    in one place creating a file soon takes 0.5 ms, otherwise 0.02 ms.
    """
    import fcntl  # for the few who make a queue

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = int.from_bytes(fcntl.ioctl(fd, GET_FLAGS, bytes(4)), sys.byteorder)
        fcntl.ioctl(fd, SET_FLAGS, (flags | TOP_DIRECTORY).to_bytes(4, sys.byteorder))
    except OSError:  # another file system, or not ours
        pass
    finally:
        os.close(fd)


class _Maker:
    """Makes one part of a queue with its owner and mode, if it is not there."""

    def __init__(self, path: str, owners: Owners | None) -> None:
        self._path = path
        self._owners = owners

    def directory(self, name: str, owner: str, mode: int) -> None:
        path = self._path + name
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return
        self._hand_over(path, owner, mode)

    def file(self, name: str, owner: str, mode: int, size: int) -> None:
        path = self._path + name
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        try:
            os.write(fd, bytes(size))
        finally:
            os.close(fd)
        self._hand_over(path, owner, mode)

    def fifo(self, name: str, owner: str, mode: int) -> None:
        path = self._path + name
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            return
        self._hand_over(path, owner, mode)

    def _hand_over(self, path: str, owner: str, mode: int) -> None:
        if self._owners:
            os.chown(path, getattr(self._owners, owner), self._owners.qmail)
        os.chmod(path, mode)
