"""Handing a message to qmail-queued: how those queue mail who may not write the queue.

The client fills two files without a name, one with the message, one with the
envelope, and passes both over a Unix socket in one datagram.  The answer is
one byte, qmail-queue's exit code.  Who the client is, the server asks the
kernel.  Small files are memfds sealed against any change, so that the server
can read them without a wait; large ones are unlinked files on disk.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
import time

from qmail.queueing.accept import refusing
from qmail.queueing.gathering import Gathering
from qmail.queueing.verdicts import (
    BAD_QUEUE,
    CONNECTION_FAILED,
    OUT_OF_MEMORY,
    TIMED_OUT,
    WRITE_ERROR,
    Refused,
)
from supervise.durable import write_all
from supervise.locks import lock_exnb

REQUEST = b"queue 1"
DIRECTORY = "queued"
"""Below the mail home; qmailq's.  The queue itself nobody else may enter."""
SOCKET = "socket"
LOCK = "lock"
BACKLOG = 1024
IN_MEMORY = 16 * 1024 * 1024  # bytes; a larger message goes to a file on disk
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
CREDENTIALS = struct.Struct("=iII")
TIMEVAL = struct.Struct("@ll")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Parcel:
    """A file without a name that grows.  `fd` is this object's until `close`."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._left = in_memory
        self._on_disk = False
        self.fd = os.memfd_create("qmail-queue", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Raises OSError: no room."""
        self._left -= len(data)
        if self._left < 0 and not self._on_disk:
            self._move_to_disk()
        write_all(self.fd, data)

    def _move_to_disk(self) -> None:
        disk = _unlinked_file()
        try:
            copy(self.fd, disk)
        except OSError:
            os.close(disk)
            raise
        os.close(self.fd)
        self.fd, self._on_disk = disk, True

    def seal(self) -> None:
        """It is complete."""
        if not self._on_disk:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, SEALS)

    def close(self) -> None:
        os.close(self.fd)


def _unlinked_file() -> int:
    for directory in (os.environ.get("TMPDIR"), "/var/tmp", "/tmp"):
        if directory:
            try:
                return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
            except OSError:
                continue
    import tempfile  # for file systems where a file must have had a name

    fd, name = tempfile.mkstemp()
    os.unlink(name)
    return fd


def copy(source: int, target: int) -> None:
    """Append the file `source`, from its beginning, to `target`.  Raises OSError."""
    offset = 0
    while chunk := os.pread(source, 1 << 18, offset):
        write_all(target, chunk)
        offset += len(chunk)


def is_regular(fd: int) -> bool:
    """Can reading `fd` at any place not wait for another process?  (A file system may still be slow.)"""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def is_sealed(fd: int) -> bool:
    """Is it a memfd that nobody can change any more?"""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
    except OSError:
        return False


class HandOver:
    """A message for qmail-queued: what accept.Entry is to those who may write the queue themselves.

    Every method may raise Refused; then, or to give it up, call `abandon`.
    """

    def __init__(self, home: str, seconds: float) -> None:
        """For the queue of a mail home; the server has to answer within `seconds`."""
        self._home = home
        self._deadline = time.monotonic() + seconds
        self._gathering = Gathering()
        with refusing(OUT_OF_MEMORY):
            self._message = Parcel()
            try:
                self._envelope = Parcel()
            except OSError:
                self._message.close()
                raise

    def write(self, data: bytes) -> None:
        """Add to the message."""
        self._put(self._gathering.add(data))

    def _put(self, data: bytes) -> None:
        if data:
            with refusing(WRITE_ERROR):
                self._message.write(data)

    def end_message(self) -> None:
        """The message is complete; its envelope comes next."""
        self._put(self._gathering.take())

    def write_envelope(self, data: bytes | bytearray | memoryview) -> None:
        """Add to the envelope: `F` sender NUL, `T` recipient NUL ..., without the final NUL."""
        with refusing(WRITE_ERROR):
            self._envelope.write(data)

    def commit(self) -> int:
        """Have it queued; return qmail-queue's exit code.

        Never raises.  Without an answer the message may have been queued, or not.
        """
        try:
            with refusing(WRITE_ERROR):
                self._envelope.write(b"\0")
                self._message.seal()
                self._envelope.seal()
            return self._ask()
        except Refused as refused:
            return refused.code
        finally:
            self.abandon()

    def _ask(self) -> int:
        with connect(self._home, self._deadline - time.monotonic()) as channel, answering():
            socket.send_fds(channel, [REQUEST], [self._message.fd, self._envelope.fd])
            answer = channel.recv(2)
        if len(answer) != 1:
            raise Refused(CONNECTION_FAILED)
        return answer[0]

    def abandon(self) -> None:
        """Give it up."""
        self._message.close()
        self._envelope.close()


def connect(home: str, seconds: float) -> socket.socket:
    """A connection to the qmail-queued of a mail home.  Raises Refused.

    It blocks, and the kernel keeps the time: a connect that does not block
    would fail when many clients are waiting.
    """
    with refusing(BAD_QUEUE):
        directory = os.open(f"{home}/{DIRECTORY}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with refusing(OUT_OF_MEMORY):
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            limit = TIMEVAL.pack(max(int(seconds), 1), 0)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            with refusing(BAD_QUEUE):
                channel.connect(
                    f"/proc/self/fd/{directory}/{SOCKET}"
                )  # a socket's path has 107 bytes at most
        except BaseException:
            channel.close()
            raise
    finally:
        os.close(directory)
    return channel


class answering:
    """Make trouble with the connection a refusal."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if isinstance(error, BlockingIOError):  # what the kernel calls its own timeout
            raise Refused(TIMED_OUT) from error
        if isinstance(error, OSError):
            raise Refused(CONNECTION_FAILED) from error


def listen(home: str) -> socket.socket:
    """Be the qmail-queued of a mail home: the socket on which its clients connect.

    Makes the directory if it is missing, and replaces a socket that was left
    behind.  The lock is held as long as the process lives.  BlockingIOError:
    another one serves here; OSError.
    """
    path = f"{home}/{DIRECTORY}"
    try:
        os.mkdir(path)
    except FileExistsError:
        pass
    else:
        os.chmod(path, 0o755)  # whatever the umask: every user is to find the socket
    lock = os.open(f"{path}/{LOCK}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    lock_exnb(lock)
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.unlink(SOCKET, dir_fd=directory)
        except FileNotFoundError:
            pass
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
        os.chmod(SOCKET, 0o666, dir_fd=directory)
    finally:
        os.close(directory)
    listener.listen(BACKLOG)
    return listener


def peer(channel: socket.socket) -> tuple[int, int]:
    """The pid and uid of who connected."""
    packed = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _ = CREDENTIALS.unpack(packed)
    return pid, uid
