"""Signals: what this process does with them, and caught ones as events, for a selector to wait on."""

from __future__ import annotations

import os

from supervise.descriptors import above_the_standard_ones

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable
    from types import FrameType, TracebackType

    from supervise.steps import Step

    Handler = Callable[[int, FrameType | None], object] | int | None
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

SIGNALS: tuple[int, ...] = tuple(signal.valid_signals())
IGNORED_BY_DEFAULT = frozenset((signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH))


def caught() -> set[int]:
    """Those that have a handler."""
    return {number for number in SIGNALS if callable(signal.getsignal(number))}


def not_ignored() -> tuple[int, ...]:
    """The signals that have their default action in what is executed now."""
    return tuple(number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN)


def reset() -> None:
    """As exec does: handled signals to their default; ignored and blocked ones stay so."""
    signal.set_wakeup_fd(-1)
    for number in caught():
        signal.signal(number, signal.SIG_DFL)


class SignalPipe:
    """While entered, the signals `caught` do nothing but arrive at `fileno()`.

    At most one may be entered in a process at a time; it may be made by the
    process that forks the one that enters it.  On exit the old handlers are
    back.  (A chained or forked program gets the defaults, as with exec.)
    """

    def __init__(self, caught: Iterable[signal.Signals]) -> None:
        self.handlers: dict[int, Handler] = dict.fromkeys(caught, _arrived)
        self._old: dict[int, Handler] = {}  # what was there before
        self._ends = [above_the_standard_ones(fd) for fd in os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)]

    def __enter__(self) -> SignalPipe:
        self._old = {number: signal.signal(number, handler) for number, handler in self.handlers.items()}
        signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        return self

    def steps(self) -> list[Step]:
        """The calls by which a process that has been forked with the `handlers` enters."""
        return [(signal.set_wakeup_fd, (self._ends[1],))]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self.close()

    def close(self) -> None:
        while self._ends:
            try:
                os.close(self._ends.pop())
            except OSError:  # interrupted, but closed
                pass

    def fileno(self) -> int:
        return self._ends[0]

    def descriptors(self) -> list[int]:
        return self._ends

    def arrived(self) -> set[int]:
        """The signals caught since the last call; never waits."""
        try:
            return set(os.read(self._ends[0], 4096))
        except BlockingIOError:
            return set()


def _arrived(number: int, frame: FrameType | None) -> None:
    """Do nothing: set_wakeup_fd has written the number to the pipe."""
