"""Feeding standard input, with something before it, to a program: preline, predate, mailsubj, dot-forward."""

from __future__ import annotations

import os

from supervise import chain, children, descriptors
from supervise.durable import write_all
from supervise.program import Fatal, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

BLOCK = 65536
UNNOTICED = 8192  # bytes; the originals write so much at once, and only at the end


class Pipe:
    """A program that reads what is written here.  SIGPIPE has to be ignored.

    `cannot` makes the error of the child that cannot run `argv`.
    """

    def __init__(self, name: str, argv: Sequence[str], cannot: Callable[[str, OSError], Fatal]) -> None:
        with unable_to("create pipe"):
            reading, self._fd = os.pipe2(os.O_CLOEXEC)

        def become() -> int:
            descriptors.arrange({0: reading})
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            try:
                chain.run(argv)
            except OSError as error:
                raise cannot(argv[0], error) from error

        with unable_to("fork"):
            self._pid = children.fork(name, become)
        os.close(reading)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, data: bytes) -> OSError | None:
        """Write all of `data`; an error if the program reads no more."""
        try:
            write_all(self._fd, data)
        except OSError as error:
            return error
        return None

    def wait(self) -> int:
        """Let the program see the end, and return its exit code.  Raises Fatal if it crashes."""
        self.close()
        code = children.wait(self._pid)
        if code < 0:
            raise Fatal("child crashed")
        return code


def copy(pipe: Pipe, beginning: bytes) -> OSError | None:
    """Feed `beginning` and standard input to `pipe`; stop when it reads no more.

    Returns the error that the originals notice, if any: of reading, or of
    writing, unless all of it is UNNOTICED bytes at most.
    """
    broken: OSError | None = None
    total = 0
    block = beginning
    while True:
        try:
            more = os.read(0, BLOCK)
        except OSError as error:
            return error
        block += more
        total += len(block)
        broken = broken or pipe.write(block)
        if not more or (broken and total > UNNOTICED):
            return broken if total > UNNOTICED else None
        block = b""
