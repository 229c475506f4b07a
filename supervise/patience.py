"""What multilog cannot do now it tries again until it can: no line may be lost."""

from __future__ import annotations

import time

from supervise.errors import reason
from supervise.program import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

PAUSE = 5  # seconds


def warn(problem: str) -> None:
    """Say `problem`."""
    say(f"multilog: warning: {problem}")


def pause(problem: str) -> None:
    """Say `problem`, and let some time go by."""
    warn(problem)
    time.sleep(PAUSE)


def patiently(what: str, action: Callable[[], T]) -> T:
    """Return `action()`.  As long as it fails, or memory is out, say so, pause, and try again."""
    while True:
        try:
            return action()
        except OSError as error:
            pause(f"unable to {what}, pausing: {reason(error)}")
        except MemoryError:
            pause(f"unable to {what}, pausing: out of memory")
