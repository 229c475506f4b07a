"""Stand between a program and its descriptors 0 and 1: what fixcrio and recordio do.

The program keeps the process, so that its pid, its signals and its exit code
are its own; a child of it copies the data.
"""

from __future__ import annotations

import os
import select

from supervise import chain, children, descriptors
from supervise.program import unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import NoReturn, Protocol

    class Watcher(Protocol):
        """Sees one direction: each piece as it was read, which it may change, and the end."""

        def feed(self, data: bytes) -> bytes: ...
        def end(self) -> None: ...
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

STEP = 65_536  # bytes read at once
WRITE_STEP = 4096  # bytes; what a blocking pipe or socket takes at once when it is writable


def run(name: str, argv: Sequence[str], towards: Watcher, back: Watcher) -> NoReturn:
    """Become `argv`, between two pipes; a child passes 0 through `towards` and the answers through `back`."""
    with unable_to("create pipe"):
        inward = os.pipe()
        outward = os.pipe()
    try:
        with unable_to("fork"):
            children.fork(name, lambda: _copy_both(inward[1], outward[0], towards, back))
        with unable_to("move descriptors"):
            descriptors.arrange({0: inward[0], 1: outward[1]})
    finally:
        for fd in (*inward, *outward):
            if fd > 1:
                os.close(fd)
    with unable_to(f"run {argv[0]}"):
        chain.run(argv)


def _copy_both(to_program: int, from_program: int, towards: Watcher, back: Watcher) -> int:
    descriptors.close_on_exec(keep=[to_program, from_program])
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.set_blocking(to_program, False)  # nobody else has this end
    copy_both(_Direction(0, to_program, towards), _Direction(from_program, 1, back))
    return 0


class _Direction:
    """Data on their way from `source` to `target`."""

    def __init__(self, source: int, target: int, watcher: Watcher) -> None:
        self.ended = False
        self._source = source
        self._target = target
        self._watcher = watcher
        self._pending = memoryview(b"")

    def register(self, poll: select.poll) -> None:
        if self._pending:
            poll.register(self._target, select.POLLOUT)
        elif not self.ended:
            poll.register(self._source, select.POLLIN)

    def go_on(self, ready: set[int]) -> None:
        """Write or read, if the descriptor for that is `ready`.  OSError: nobody takes the data."""
        if self._pending:
            if self._target in ready:
                self._write()
        elif not self.ended and self._source in ready:
            self._read()

    def _read(self) -> None:
        """Take what is there; nothing is the end, and the target is told by closing it."""
        try:
            data = os.read(self._source, STEP)
        except OSError:
            data = b""
        if data:
            self._pending = memoryview(self._watcher.feed(data))
        else:
            self.ended = True
            os.close(self._target)
            self._watcher.end()

    def _write(self) -> None:
        try:
            self._pending = self._pending[os.write(self._target, self._pending[:WRITE_STEP]) :]
        except BlockingIOError:
            pass


def copy_both(towards: _Direction, back: _Direction) -> None:
    """Copy until the program ends its output, or one side takes no more.

    Each direction reads only once it has written what it read before.
    """
    directions = (towards, back)
    try:
        while not back.ended:
            poll = select.poll()
            for direction in directions:
                direction.register(poll)
            ready = {fd for fd, _ in poll.poll()}
            for direction in directions:
                direction.go_on(ready)
    except OSError:  # nobody takes it
        return
