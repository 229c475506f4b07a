"""A limit on the time that a piece of work may take, by SIGALRM: it interrupts any system call."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType, TracebackType
    from typing import Literal
else:
    import _signal as signal  # the same without enums, at a fifth of the time


class TimeIsUp(Exception):
    """The work took too long."""


class TimeLimit:
    """`with TimeLimit(seconds): ...` raises TimeIsUp in the block when they are over.

    Not within another one, and only where signals go, in the main thread.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._old = signal.signal(signal.SIGALRM, _over)
        signal.alarm(self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> Literal[False]:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, self._old)
        return False


def _over(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise TimeIsUp
