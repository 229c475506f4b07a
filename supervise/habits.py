"""How a service is run beyond what its life cycle says, and the plain way to do it."""

from __future__ import annotations

from posix import environ, posix_spawn  # environ as chain has it
from time import sleep

from supervise import chain, children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from supervise.lifecycle import Event, Phase, State
    from supervise.status import Status

    class Habits(Protocol):
        """How a service is run, beyond what the life cycle says."""

        def argv(self, phase: Phase) -> tuple[str, ...] | None:
            """What is to run in `phase`; None if there is no such script."""

        def spawn(self, phase: Phase, argv: tuple[str, ...], /) -> int:
            """Start it and return its pid.  OSError."""

        def adopt(self, record: Status, /) -> Phase:
            """Take notice of what another supervise has started, and say what it is."""

        def ended(self, phase: Phase, pid: int, status: int | None, /) -> Event:
            """Take notice of its end, of which the wait status may be unknown, and say what that means."""

        def rest(self) -> float:
            """How many seconds to wait before the next start."""

        def pause(self, seconds: float) -> None:
            """Let time pass after a start."""

        def fileno(self) -> int:
            """Readable when `heed` has something to do; -1 if it never has."""

        def heed(self) -> None:
            """Take notice of what the service says."""

        def descriptors(self) -> list[int]:
            """What it keeps open."""

        def close(self) -> None:
            """Close them."""

        def announce(self, state: State, changed: int, next_start: float, /) -> None:
            """Tell others how the service is, beside the status record."""

        @property
        def kill_after(self) -> float | None:
            """Seconds from TERM to KILL."""


RUN = ("./run",)


class Plain:
    """The habits of a service without extensions: there is ./run, and that is all."""

    kill_after = None

    def __init__(self) -> None:
        self._own = False  # ./run is a program of the toolkit

    def argv(self, phase: Phase) -> tuple[str, ...] | None:
        if phase != "up":
            return None
        self._own = chain.own_module(RUN[0]) is not None
        return RUN

    def spawn(self, _phase: Phase, argv: tuple[str, ...]) -> int:
        return children.spawn(argv) if self._own else posix_spawn(argv[0], argv, environ)

    def adopt(self, _record: Status) -> Phase:
        return "up"

    def ended(self, _phase: Phase, _pid: int, _status: int | None) -> Event:
        return "ended"

    def rest(self) -> float:
        return 0.0

    pause = staticmethod(sleep)

    def fileno(self) -> int:
        return -1

    def heed(self) -> None:
        pass

    def descriptors(self) -> list[int]:
        return []

    def close(self) -> None:
        pass

    def announce(self, _state: State, _changed: int, _next_start: float) -> None:
        pass
