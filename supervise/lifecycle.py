"""The life of a service as a table: what runs now, what is wanted, what happens, and what follows.

Strings name all three, since a supervise is to stay small and enum is not.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Phase = Literal["down", "waiting", "starting", "up", "finishing", "stopping"]
    """What runs now: nothing, nothing until it may start, ./start, ./run, ./finish or ./stop."""

    Want = Literal["u", "d", "o", ""]
    """What the administrator wants: up, down, run once, or nothing more, since it has run once."""

    Command = Literal["u", "d", "o", "x"]
    Event = Literal[Command, "rested", "ended", "failed", "no fork"]
    """What happens: svc's commands; the time to start has come; what ran has ended, or has
    ended and is not to be run again; what was to run could not be started."""


class State:
    """A phase, what is wanted, and whether supervise is to leave when all is over."""

    __slots__ = ("leaving", "over", "phase", "want")

    def __init__(self, phase: Phase, want: Want, leaving: bool = False) -> None:
        self.phase = phase
        self.want = want
        self.leaving = leaving
        self.over = leaving and phase == "down"  # may supervise exit?

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return f"State{self._all()}"

    def _all(self) -> tuple[Phase, Want, bool]:
        return self.phase, self.want, self.leaving


MOVES: dict[tuple[Phase, Event], Phase] = {
    ("down", "u"): "waiting",
    ("down", "o"): "waiting",
    ("waiting", "d"): "stopping",
    ("waiting", "rested"): "starting",
    ("starting", "failed"): "down",
    ("starting", "no fork"): "waiting",
    ("up", "no fork"): "waiting",
    ("up", "ended"): "finishing",
    ("up", "failed"): "finishing",
}

AFTER: dict[tuple[Phase, Want], Phase] = {
    ("starting", "u"): "up",
    ("starting", "o"): "up",
    ("starting", "d"): "stopping",
    ("finishing", "u"): "waiting",
    ("finishing", "o"): "waiting",
    ("finishing", "d"): "stopping",
    ("finishing", ""): "stopping",
    ("stopping", "u"): "waiting",
    ("stopping", "o"): "waiting",
    ("stopping", "d"): "down",
    ("stopping", ""): "down",
}
"""Where the end of a script leads to, for each want (if MOVES does not say)."""


def step(state: State, event: Event) -> State:
    """The state after `event`; what the tables leave out changes nothing.

    Whoever sees the phase change runs the new phase's script, if it has one,
    and reports its end; on "d" in "starting" or "up" he sends TERM and CONT.
    """
    if event == "failed" and state.want == "d":
        event = "ended"  # it went down as it was told to
    want, leaving = _wish(state, event), state.leaving or event == "x"
    phase = MOVES.get((state.phase, event), state.phase)
    if leaving and phase == "waiting" and want == "u" and event in ("x", "no fork"):
        phase = "stopping"
    elif phase == state.phase and event in ("ended", "failed"):
        # A service that is wanted up is not started again by a supervise that leaves.
        serious: Want = "" if leaving and want == "u" and phase != "starting" else want
        phase = AFTER.get((phase, serious), phase)
    return State(phase, want, leaving)


def _wish(state: State, event: Event) -> Want:
    """What is wanted after `event`, in the old phase."""
    if event in ("u", "d", "o"):
        return event
    if event == "failed" and state.phase in ("starting", "up", "finishing"):
        return "d"
    if event == "ended" and state.phase == "up" and state.want == "o":
        return ""
    return state.want
