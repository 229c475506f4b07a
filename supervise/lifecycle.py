"""The life of a service as supervise sees it: a table, and one function.  Does no I/O.

A service is up while ./run runs.  Around it stand scripts that a plain service
does not have: ./start before the first run, ./finish after each, ./stop when
all is over.  A script that is missing counts as one that has run well.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Phase(Enum):
    """What runs now."""

    DOWN = "nothing"
    RESTING = "nothing, until it may start"
    STARTING = "./start"
    UP = "./run"
    FINISHING = "./finish"
    CLOSING = "./stop"


class Want(Enum):
    """What the administrator wants."""

    UP = "to be up"
    DOWN = "to be down"
    ONCE = "to run once"
    OVER = "nothing more: it has run once"


class Event(Enum):
    """What happens to a service.  The first three are commands."""

    UP = "u"
    DOWN = "d"
    ONCE = "o"
    LEAVE = "x"
    RESTED = "the time to start has come"
    ENDED = "what ran has ended"
    FAILED = "what ran has ended, and is not to be run again"
    NO_FORK = "what was to run could not be started"


class State(NamedTuple):
    """A phase, what is wanted, and whether supervise is to leave when all is over."""

    phase: Phase
    want: Want
    leaving: bool = False

    @property
    def over(self) -> bool:
        """May supervise exit?"""
        return self.leaving and self.phase is Phase.DOWN


WISHES = {Event.UP: Want.UP, Event.DOWN: Want.DOWN, Event.ONCE: Want.ONCE}

MOVES = {
    (Phase.DOWN, Event.UP): Phase.RESTING,
    (Phase.DOWN, Event.ONCE): Phase.RESTING,
    (Phase.RESTING, Event.DOWN): Phase.CLOSING,
    (Phase.RESTING, Event.RESTED): Phase.STARTING,
    (Phase.STARTING, Event.FAILED): Phase.DOWN,
    (Phase.STARTING, Event.NO_FORK): Phase.RESTING,
    (Phase.UP, Event.NO_FORK): Phase.RESTING,
    (Phase.UP, Event.ENDED): Phase.FINISHING,
    (Phase.UP, Event.FAILED): Phase.FINISHING,
}

AFTER = {
    (Phase.STARTING, Want.UP): Phase.UP,
    (Phase.STARTING, Want.ONCE): Phase.UP,
    (Phase.STARTING, Want.DOWN): Phase.CLOSING,
    (Phase.FINISHING, Want.UP): Phase.RESTING,
    (Phase.FINISHING, Want.ONCE): Phase.RESTING,
    (Phase.FINISHING, Want.DOWN): Phase.CLOSING,
    (Phase.FINISHING, Want.OVER): Phase.CLOSING,
    (Phase.CLOSING, Want.UP): Phase.RESTING,
    (Phase.CLOSING, Want.ONCE): Phase.RESTING,
    (Phase.CLOSING, Want.DOWN): Phase.DOWN,
    (Phase.CLOSING, Want.OVER): Phase.DOWN,
}
"""Where the end of a script leads to, for each want (if MOVES does not say)."""


def step(state: State, event: Event) -> State:
    """The state after `event`; what the tables leave out changes nothing.

    Whoever sees the phase change runs the new phase's script, if it has one,
    and reports its end; on DOWN in STARTING or UP he sends TERM and CONT.
    """
    state = _wish(state, event)
    phase = MOVES.get((state.phase, event), state.phase)
    if phase is state.phase and event in (Event.ENDED, Event.FAILED):
        phase = AFTER.get((phase, _serious(state)), phase)
    return State(phase, state.want, state.leaving)


def _wish(state: State, event: Event) -> State:
    """What is wanted after `event`, in the old phase."""
    if event is Event.LEAVE:
        idle = state.phase is Phase.RESTING and state.want is Want.UP
        return State(Phase.CLOSING if idle else state.phase, state.want, True)
    if event in WISHES:
        return state._replace(want=WISHES[event])
    if event is Event.FAILED and state.phase in (Phase.STARTING, Phase.UP, Phase.FINISHING):
        return state._replace(want=Want.DOWN)
    if event is Event.ENDED and state.phase is Phase.UP and state.want is Want.ONCE:
        return state._replace(want=Want.OVER)
    return state


def _serious(state: State) -> Want:
    """A service that is wanted up is not started again by a supervise that leaves."""
    restarts = state.leaving and state.want is Want.UP and state.phase is not Phase.STARTING
    return Want.OVER if restarts else state.want
