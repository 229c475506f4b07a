"""multilog(8): read lines and append those selected to logs, each a directory of limited size.

SYNOPSIS   multilog script
           where script is any number of words, each an action, done in order for every line:

           t            (only as the first word) put a TAI64N label and a space before the line
           -pattern     deselect the line if it matches
           +pattern     select it again if it matches
           e            print the line on descriptor 2, at most 200 bytes of it
           =file        make the line the content of file: 1001 bytes, newlines filling it up
           ssize        let files of later logs have size bytes at most: 4096 to 16777215, or 99999
           nnum         keep num files in later logs, current included: at least 2, or 10
           !processor   pass every full file of later logs through sh -c processor, which reads
                        it on descriptor 0 and writes the file to be kept on 1; on 4 it reads
                        what it wrote on 5 the last time
           dir          (begins with a dot or a slash) append the line to the log in dir

EXIT       0: end of input, or SIGTERM.  111: a log cannot be opened.

A star in a pattern matches up to the first occurrence of the character after
it, or everything if it is the last one.  Of a long line the first 1000 bytes
are looked at, and all is logged.  A file is ended at a line's end if one comes
within 2000 bytes of the size.

At SIGTERM multilog reads up to the end of the line it is in, and exits; what
follows it leaves unread.  SIGALRM ends every current that is not empty.
When a disk is full, memory or descriptors have run out, or a processor fails,
it says so, pauses, and tries again, and reads nothing meanwhile.  SIGKILL may
cost what it read last, at most 1024 bytes; in a flood it reads more at once,
but leaves that in the pipe until it is written, so the next multilog may write
some lines a second time.  (What is read of anything but a pipe is gone with
it.)  Nobody else should read from the same pipe.

FILES      dir/current, being written; dir/@LABEL.s, old and whole; dir/@LABEL.u, left by a crash;
           dir/lock, dir/state; while a processor runs dir/previous, dir/processed, dir/newstate
"""

from __future__ import annotations

import os
import select
import time

from supervise.durable import write_all
from supervise.labels import Labels
from supervise.log_directory import LogDirectory, close
from supervise.log_input import LEAST, LogInput
from supervise.log_lines import Lines
from supervise.log_script import Directory, Router, Status, labels_lines, parse
from supervise.patience import patiently, pause
from supervise.program import program, unable_to
from supervise.signals import SignalPipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from supervise.log_script import Action
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

CHUNK = 32768  # bytes; half of what a pipe holds, so that the other half can come meanwhile
CREATE = os.O_WRONLY | os.O_APPEND | os.O_CREAT
QUICK = os.O_NONBLOCK | os.O_CLOEXEC


@program("multilog", resident=True, later=["ctypes"])
def main(argv: Sequence[str]) -> int:
    os.umask(0o022)
    with unable_to("switch to current directory"):
        start = os.open(".", os.O_RDONLY | QUICK)  # takes the place of a descriptor 0 that is closed
    try:
        with SignalPipe((signal.SIGTERM, signal.SIGALRM)) as signals:
            keep(argv, signals)
    finally:
        close(start)
    return 0


def keep(argv: Sequence[str], signals: SignalPipe) -> None:
    """Do what the script says with descriptor 0, up to its end or SIGTERM."""
    log, source = Log(argv), LogInput()
    try:
        log.open()
        read(source, log, signals)
        log.close()
    finally:
        source.close()
        log.release()


def read(source: LogInput, log: Log, signals: SignalPipe) -> None:
    """Pass what `source` brings to `log`, up to its end or SIGTERM."""
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    waiting.register(signals, select.POLLIN)
    stopping = False
    while not (stopping and not log.in_a_line):
        ready = [fd for fd, _ in waiting.poll()]
        if signals.fileno() in ready:
            arrived = signals.arrived()
            stopping = stopping or signal.SIGTERM in arrived
            if signal.SIGALRM in arrived:
                log.rotate()
            continue
        chunk = source.read(1 if stopping else log.wants)  # after SIGTERM no byte beyond the line
        if not chunk:
            break
        log.take(chunk)
        source.logged()
        log.settle()
    log.end()
    log.settle()


class Log:
    """Everything that a script writes to."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._actions = parse(argv)
        self._lines = Lines(Labels() if labels_lines(argv) else None)
        self._router = Router(self._actions)
        self._files: dict[Action, int] = {}
        self._directories: dict[Action, LogDirectory] = {}
        self.wants = LEAST  # bytes to read next

    def open(self) -> None:
        """Open files, then directories.  Fatal: one cannot be."""
        for action in self._actions:
            if isinstance(action, Status):
                self._files[action] = _open_status(action.file)
        for action in self._actions:
            if isinstance(action, Directory):
                log = LogDirectory(action.path, action.size, action.count, action.processor)
                self._directories[action] = log

    @property
    def in_a_line(self) -> bool:
        return self._lines.partial

    def take(self, chunk: bytes) -> None:
        """Log what `chunk`, just read, completes; in halves if memory is short."""
        routed = self._routed(chunk)
        while routed is None and len(chunk) <= LEAST:
            pause("unable to take in lines, pausing: out of memory")
            routed = self._routed(chunk)
        if routed is not None:
            self._write(routed, len(chunk))
            return
        for half in patiently("take in lines", lambda: _halves(chunk)):
            self.take(half)

    def _routed(self, chunk: bytes) -> list[tuple[Action, bytes]] | None:
        """Who gets what of `chunk`.  None: memory has run out, and nothing has changed."""
        before = self._lines.state
        try:
            return self._router.route(self._lines.feed(chunk, time.time_ns()))
        except MemoryError:
            self._lines.state = before
            return None

    def end(self) -> None:
        """Log what the last line left."""
        batch = self._lines.end()
        self._write(patiently("select lines", lambda: self._router.route(batch)), 1)

    def _write(self, routed: Sequence[tuple[Action, bytes]], size: int) -> None:
        """Write what `size` bytes brought.

        The next read is for little if this one was, and for what the logs have
        room for, so that at the end of a file, or when the disk fills up,
        hardly more than the beginning of a line is in memory only.
        """
        self.wants = CHUNK if size >= LEAST else LEAST
        for action, text in routed:
            if isinstance(action, Directory):
                log = self._directories[action]
                log.write(text)
                if text:
                    self.wants = max(LEAST, min(self.wants, log.room * size // len(text)))
            elif isinstance(action, Status):
                _write_status(self._files[action], action.file, text)
            else:
                _print(text)

    def settle(self) -> None:
        """End the files that are full."""
        for log in self._directories.values():
            log.settle()

    def rotate(self) -> None:
        for log in self._directories.values():
            log.rotate()

    def close(self) -> None:
        """Put everything on disk, and mark it whole."""
        for log in self._directories.values():
            log.close()

    def release(self) -> None:
        """Let go of what is still open."""
        for log in self._directories.values():
            log.release()
        for fd in self._files.values():
            close(fd)
        self._directories.clear()
        self._files.clear()


def _halves(chunk: bytes) -> tuple[bytes, bytes]:
    middle = len(chunk) // 2
    return chunk[:middle], chunk[middle:]


def _open_status(file: str) -> int:
    with unable_to(f"create {file}"):
        close(os.open(file, CREATE | QUICK, 0o600))
    with unable_to(f"write {file}"):
        return os.open(file, os.O_WRONLY | QUICK)


def _write_status(fd: int, file: str, text: bytes) -> None:
    def write() -> None:
        patiently(f"move to beginning of {file}", lambda: os.lseek(fd, 0, os.SEEK_SET))
        write_all(fd, text)

    patiently(f"write {file}", write)


def _print(text: bytes) -> None:
    """Nobody listening is no error."""
    try:
        write_all(2, text)
    except OSError:
        pass
