"""How a service is run beyond what its life cycle says, and the plain way to do it."""

from __future__ import annotations

import time

from supervise import chain
from supervise.lifecycle import Event, Phase, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from supervise.status import Status

    class Habits(Protocol):
        """How a service is run, beyond what the life cycle says."""

        def argv(self, phase: Phase) -> list[str] | None:
            """What is to run in `phase`; None if there is no such script."""

        def spawn(self, phase: Phase, argv: Sequence[str], /) -> int:
            """Start it and return its pid.  OSError."""

        def adopt(self, record: Status, /) -> None:
            """Take notice that ./run already runs, as another supervise has started it."""

        def ended(self, phase: Phase, pid: int, status: int, /) -> Event:
            """Take notice of its end: ENDED or FAILED."""

        def rest(self) -> float:
            """How many seconds to wait before the next start."""

        def pause(self, seconds: float) -> None:
            """Let time pass after a start."""

        def fileno(self) -> int:
            """Readable when `heed` has something to do; -1 if it never has."""

        def heed(self) -> None:
            """Take notice of what the service says."""

        def announce(self, state: State, changed: int, next_start: float, /) -> None:
            """Tell others how the service is, beside the status record."""

        @property
        def kill_after(self) -> float | None:
            """Seconds from TERM to KILL."""


class Plain:
    """The habits of a service without extensions: there is ./run, and that is all."""

    kill_after = None

    def argv(self, phase: Phase) -> list[str] | None:
        return ["./run"] if phase is Phase.UP else None

    def spawn(self, _phase: Phase, argv: Sequence[str]) -> int:
        return chain.spawn(argv)

    def adopt(self, _record: Status) -> None:
        pass

    def ended(self, _phase: Phase, _pid: int, _status: int) -> Event:
        return Event.ENDED

    def rest(self) -> float:
        return 0.0

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def fileno(self) -> int:
        return -1

    def heed(self) -> None:
        pass

    def announce(self, _state: State, _changed: int, _next_start: float) -> None:
        pass
