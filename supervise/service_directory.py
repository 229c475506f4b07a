"""What supervise keeps in the service directory: supervise/{lock,control,ok,status}."""

from __future__ import annotations

import os

from supervise.errors import reason
from supervise.locks import lock_exnb
from supervise.program import say, unable_to
from supervise.status import CONTROL, FILE, OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervise.status import Status

NEW = FILE + ".new"
FOLDER = "supervise"
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC


class ServiceDirectory:
    """The present directory, which a process supervises for as long as it has `descriptors()` open.

    `name` is what messages call it.  `control` is readable when there are
    commands.  Raises Fatal; nobody else supervises it then through us.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.control = -1
        self._open: list[int] = []
        self._written = b""
        try:
            self._lock()
            self._listen()
        except BaseException:
            self.close()
            raise

    def descriptors(self) -> list[int]:
        return self._open

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def _lock(self) -> None:
        _make_folder()
        with unable_to(f"acquire {self.name}/supervise/lock"):
            lock = self._keep("supervise/lock", WRITE | os.O_APPEND | os.O_CREAT)
            lock_exnb(lock)

    def _listen(self) -> None:
        _make_fifo(CONTROL)
        with unable_to(f"read {self.name}/{CONTROL}"):
            self.control = self._keep(CONTROL, READ)
        with unable_to(f"write {self.name}/{CONTROL}"):
            self._keep(CONTROL, WRITE)  # so that it never ends, whoever comes and goes

    def admit(self) -> None:
        """Make it known that supervise runs: from now on svok says yes."""
        _make_fifo(OK)
        with unable_to(f"read {self.name}/{OK}"):
            self._keep(OK, READ)

    def _keep(self, path: str, flags: int) -> int:
        fd = os.open(path, flags, 0o600)
        self._open.append(fd)
        return fd

    def command(self) -> str:
        """The next character that svc has written, if there is one; never waits."""
        try:
            return os.read(self.control, 1).decode("latin-1")
        except BlockingIOError:
            return ""

    def forget(self) -> None:
        """Have the next status written even if it says what the last one said."""
        self._written = b""

    def announce(self, status: Status) -> None:
        """Make `status` the content of supervise/status, all or nothing; a warning if that fails."""
        record = status.pack()
        if record == self._written:
            return
        doing = "open {}/supervise/status.new"  # the name comes later, if at all
        try:
            fd = os.open(NEW, WRITE | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                doing = "write {}/supervise/status.new"
                if os.write(fd, record) < len(record):
                    self.warn(f"unable to {doing.format(self.name)}: partial write")
                    return
            finally:
                os.close(fd)
            doing = "rename {}/supervise/status.new to status"
            os.rename(NEW, FILE)
            self._written = record
        except OSError as error:
            self.warn(f"unable to {doing.format(self.name)}: {reason(error)}")

    def warn(self, problem: str) -> None:
        say(f"supervise: warning: {problem}")


def _make_folder() -> None:
    """Make ./supervise; if it is a dangling link, what it points to.  What fails shows when it is used."""
    try:
        os.mkdir(FOLDER, 0o700)
    except FileExistsError:
        if os.path.islink(FOLDER) and not os.path.exists(FOLDER):
            try:
                os.mkdir(os.readlink(FOLDER), 0o700)
            except OSError:
                pass
    except OSError:
        pass


def _make_fifo(path: str) -> None:
    try:
        os.mkfifo(path, 0o600)
    except OSError:  # it is there already, or opening it will tell
        pass
