"""queue-fix(8): create or repair the queue.

SYNOPSIS
    queue-fix [ -iNvb ] [ -s split ] queue

DESCRIPTION
    Makes the directories and files of the queue that are missing, gives all
    of them the owners and modes they should have, and puts every message in
    its place: a message whose file in mess/ is not named after its inode
    number (the queue was copied, or restored from a backup) is renamed, with
    its envelope and recipients, and files in the wrong subdirectory are
    moved.  Files that belong to no message are named, and left alone.

    qmail-send must not run.  In a private instance, and where there are no
    qmail accounts, everything is to belong to who runs queue-fix.

OPTIONS
    -i        ask before each change
    -N        change nothing, only say what is wrong
    -v        say what is done
    -s split  how many subdirectories mess/, info/, local/ and remote/ have;
              if not given, as many as there are, or 23
    -b        split todo/ and intd/ too, as with the big-todo patch; a queue
              that is so already stays so

EXIT
    0: all is well now.  1: -N or -i, and something is still wrong.
    100: wrong usage.  111: qmail-send is running, or something failed.

FILES
    queue/*
"""

from __future__ import annotations

import os
import stat
from functools import partial

from qmail import roles
from qmail.queueing.queue_layout import DIRECTORIES, LOCK_FILES, TCPTO_SIZE, Owners, Queue
from supervise.durable import sync_directory
from supervise.locks import lock_exnb
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, Fatal, Usage, program, say, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SYNOPSIS = "queue-fix [ -iNvb ] [ -s split ] queue"
MOST_PARTS = 100_000
MESSAGE_FILES = {  # what a message may have: (owner, mode)
    "mess": ("qmailq", 0o644), "intd": ("qmailq", 0o644), "todo": ("qmailq", 0o644),
    "info": ("qmails", 0o600), "local": ("qmails", 0o600), "remote": ("qmails", 0o600),
    "bounce": ("qmails", 0o600),
}  # fmt: skip
MOVING = ".moving"


@program("queue-fix")
def main(argv: Sequence[str]) -> int:
    options = Options(argv, "iNvbs:")
    chosen: dict[str, str] = {}
    try:
        chosen.update(options)
    except BadOption as error:
        say(f"queue-fix: {error}")
        raise Usage(SYNOPSIS) from error
    if len(options.operands) != 1:
        raise Usage(SYNOPSIS)
    path = os.path.abspath(options.operands[0])
    queue = layout(path, chosen)
    repair = Repair(queue, owners(path), chosen)
    with unable_to(f"repair {path}"):
        running(path)
        repair.run()
    return 1 if repair.left else 0


def layout(path: str, chosen: dict[str, str]) -> Queue:
    """The layout that the queue in `path` has, or is to have."""
    try:
        present = Queue.recognise(path)
    except OSError:
        present = Queue(path)
    if "s" in chosen:
        digits = chosen["s"]
        if not (digits.isdecimal() and digits.isascii() and 0 < int(digits) <= MOST_PARTS):
            raise Fatal(f"split must be a number from 1 to {MOST_PARTS}: {digits}", PERMANENT)
        present = Queue(path, int(digits), present.big_todo)
    return Queue(path, present.split, present.big_todo or "b" in chosen)


def owners(path: str) -> Owners | None:
    """Whose the parts of the queue are to be; None: the caller's."""
    cast = roles.of(os.path.dirname(path))
    if not cast:
        return None
    return Owners(cast.uids["qmailq"], cast.uids["qmails"], cast.uids["qmailr"], cast.gids["qmail"])


def running(path: str) -> None:
    """Raise Fatal if qmail-send is running; keep it from starting while this process lives."""
    try:
        fd = os.open(f"{path}/lock/sendmutex", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        lock_exnb(fd)
    except BlockingIOError as error:
        os.close(fd)
        raise Fatal("qmail-send is running: stop it first") from error


class Repair:
    """Finds what is wrong, and mends it as far as the options let.  `left`: how much was not mended."""

    def __init__(self, queue: Queue, of: Owners | None, chosen: dict[str, str]) -> None:
        self._queue = queue
        self._owners = of
        self._ask = "i" in chosen
        self._test = "N" in chosen
        self._verbose = "v" in chosen
        self.left = 0

    def run(self) -> None:
        queue = self._queue
        self._directory(queue.path, ("qmailq", 0o750))
        for kind, rights in DIRECTORIES.items():
            self._directory(f"{queue.path}/{kind}", rights)
            for part in queue.directories(kind):
                self._directory(part, rights)
        for name, (owner, mode, fifo) in LOCK_FILES.items():
            self._lock_file(queue.lock(name), owner, mode, fifo)
        self._move_messages()
        for kind, rights in MESSAGE_FILES.items():
            for _, path in self._found(kind):
                self._rights(path, rights)
        for path in self._strangers():
            say(f"queue-fix: warning: {path} belongs to no message")

    def _mend(self, problem: str, change: Callable[[], None]) -> bool:
        """Say what is wrong, and change it unless told not to; was it changed?"""
        if self._test or self._ask or self._verbose:
            say(f"{problem}{'? ' if self._ask and not self._test else ''}", 1)
        if self._test or (self._ask and not os.read(0, 1024).lower().startswith(b"y")):
            self.left += 1
            return False
        change()
        return True

    def _directory(self, path: str, rights: tuple[str, int]) -> None:
        def make() -> None:
            os.mkdir(path, rights[1])

        if os.path.isdir(path) or self._mend(f"make directory {path}", make):
            self._rights(path, rights)

    def _lock_file(self, path: str, owner: str, mode: int, fifo: bool) -> None:
        def make() -> None:
            if os.path.lexists(path):
                os.rename(path, f"{path}.wrong")
            if fifo:
                os.mkfifo(path)
            else:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))

        right = stat.S_ISFIFO if fifo else stat.S_ISREG
        if not (os.path.lexists(path) and right(os.lstat(path).st_mode)) and not self._mend(
            f"make {path}", make
        ):
            return
        if path.endswith("/tcpto") and os.stat(path).st_size != TCPTO_SIZE:
            self._mend(f"make {path} {TCPTO_SIZE} bytes long", lambda: os.truncate(path, TCPTO_SIZE))
        self._rights(path, (owner, mode))

    def _rights(self, path: str, rights: tuple[str, int]) -> None:
        """Give a path its owner, group and mode."""
        owner, mode = rights
        found = os.lstat(path)
        if self._owners:
            uid, gid = getattr(self._owners, owner), self._owners.qmail
            if (found.st_uid, found.st_gid) != (uid, gid):
                self._mend(f"change owner of {path}", lambda: os.lchown(path, uid, gid))
        if stat.S_IMODE(found.st_mode) != mode and not stat.S_ISLNK(found.st_mode):
            self._mend(f"change mode of {path} to {mode:o}", lambda: os.chmod(path, mode))

    # Messages

    def _found(self, kind: str) -> Iterator[tuple[int, str]]:
        """The message files of a kind, wherever below their directory: number and path."""
        for directory, _, names in os.walk(f"{self._queue.path}/{kind}"):
            for name in names:
                path = f"{directory}/{name}"
                if name.isdecimal() and name.isascii() and stat.S_ISREG(os.lstat(path).st_mode):
                    yield int(name), path

    def _place(self, kind: str, number: int) -> str:
        place: str = getattr(self._queue, kind)(number)
        return place

    def _move_messages(self) -> None:
        """Bring every file to the place that its message's inode number asks for.

        All that move go to a name of their own first, for one may be going
        where another still is; of a message, mess/N last.  So whatever stops
        this, it can be begun again.
        """
        for aside in self._step_aside():
            os.rename(aside, aside.removesuffix(MOVING))
        for kind in DIRECTORIES:
            for directory in self._directories_with_files(kind):
                sync_directory(directory)

    def _step_aside(self) -> list[str]:
        """Rename what is to move; return all new names, also those of a run that was stopped."""
        moves: dict[int, list[tuple[str, str]]] = {}
        new = {number: os.lstat(path).st_ino for number, path in self._found("mess")}
        for kind in reversed(MESSAGE_FILES):  # mess last
            for number, path in self._found(kind):
                right = self._place(kind, new.get(number, number))
                if path != right:
                    moves.setdefault(number, []).append((path, right + MOVING))
        for number, files in moves.items():
            problem = f"move message {number} to its place, {self._queue.split_name(new.get(number, number))}"
            self._mend(problem, partial(rename_all, files))
        return [
            f"{directory}/{name}"
            for kind in MESSAGE_FILES
            for directory, _, names in os.walk(f"{self._queue.path}/{kind}")
            for name in names
            if name.endswith(MOVING) and not self._test
        ]

    def _directories_with_files(self, kind: str) -> list[str]:
        """Those of a kind; subdirectories that a smaller split has no use for go."""
        if not os.path.isdir(f"{self._queue.path}/{kind}"):
            return []
        useful = set(self._queue.directories(kind))
        for entry in list(os.scandir(f"{self._queue.path}/{kind}")):
            if entry.is_dir(follow_symlinks=False) and entry.path not in useful:
                self._mend(f"remove directory {entry.path}", partial(os.rmdir, entry.path))
        return sorted(filter(os.path.isdir, useful))

    def _strangers(self) -> Iterator[str]:
        """Files that have no message in mess/."""
        messages = {number for number, _ in self._found("mess")}
        for kind in MESSAGE_FILES:
            for directory, _, names in os.walk(f"{self._queue.path}/{kind}"):
                for name in sorted(names):
                    if not (name.isdecimal() and name.isascii() and int(name) in messages):
                        yield f"{directory}/{name}"


def rename_all(files: Sequence[tuple[str, str]]) -> None:
    for path, aside in files:
        os.rename(path, aside)
