"""The life of a service: every way through the table ends where the administrator wants it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervise.lifecycle import AFTER, MOVES, State, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervise.lifecycle import Command, Event, Phase, Want

IDLE: set[Phase] = {"down", "waiting"}
RUNNING: set[Phase] = {"starting", "up", "finishing", "stopping"}
WANTS: list[Want] = ["u", "d", "o", ""]
COMMANDS: list[Command] = ["u", "d", "o", "x"]
INITIAL = [State("waiting", "u"), State("down", "d")]


def possible(state: State) -> list[Event]:
    """What can happen in `state`."""
    if state.phase == "down":
        return [*COMMANDS]
    if state.phase == "waiting":
        return [*COMMANDS, "rested"]
    begun: list[Event] = ["no fork"] if state.want in ("u", "o") else []  # comes at once or not at all
    return [*COMMANDS, "ended", "failed", *begun]


def reachable() -> set[State]:
    seen: set[State] = set()
    fresh = set(INITIAL)
    while fresh:
        seen |= fresh
        fresh = {step(s, e) for s in fresh if not s.over for e in possible(s)} - seen
    return seen


def walk(state: State, *events: Event) -> State:
    for event in events:
        state = step(state, event)
    return state


def run_of(state: State) -> State:
    """One run of a plain service, from RESTING: ./start, ./finish and ./stop are not there."""
    return walk(state, "rested", "ended")


def ended(state: State) -> State:
    while state.phase not in IDLE:
        state = step(state, "ended")
    return state


def test_a_service_that_is_wanted_up_is_started_again_whenever_it_ends() -> None:
    up = run_of(INITIAL[0])
    assert up == State("up", "u")
    assert ended(up) == INITIAL[0]


def test_one_that_is_told_to_go_down_stays_down() -> None:
    stopping = step(run_of(INITIAL[0]), "d")
    assert stopping == State("up", "d")
    assert ended(stopping) == State("down", "d")


def test_once_is_once() -> None:
    once = run_of(step(INITIAL[1], "o"))
    assert once == State("up", "o")
    assert ended(once) == State("down", "")


def test_once_on_a_service_that_is_up_lets_it_end() -> None:
    assert ended(step(run_of(INITIAL[0]), "o")) == State("down", "")


def test_once_again_while_the_last_scripts_run_runs_it_again() -> None:
    closing = walk(run_of(step(INITIAL[1], "o")), "ended", "ended")
    assert closing == State("stopping", "")
    assert ended(step(closing, "o")) == State("waiting", "o")


def test_up_while_it_goes_down_brings_it_up_again() -> None:
    assert ended(walk(run_of(INITIAL[0]), "d", "u")) == INITIAL[0]


@pytest.mark.parametrize("want", WANTS)
def test_a_supervise_that_leaves_goes_when_the_service_ends_and_starts_nothing(want: Want) -> None:
    left = ended(step(State("up", want), "x"))
    assert left.over


def test_leave_while_it_waits_to_start_again_is_at_once_but_a_run_ordered_takes_place() -> None:
    assert ended(step(INITIAL[0], "x")).over
    ordered = walk(INITIAL[1], "o", "x")
    assert not ordered.over
    assert ended(run_of(ordered)).over


def test_what_failed_for_good_is_down_until_told() -> None:
    failed = ended(step(run_of(INITIAL[0]), "failed"))
    assert failed == State("down", "d")
    assert step(failed, "u") == INITIAL[0]


def test_without_a_start_there_is_no_run() -> None:
    assert walk(INITIAL[0], "rested", "failed") == State("down", "d")


def test_no_fork_is_no_end() -> None:
    for want in ("u", "o"):
        assert walk(State("waiting", want), "rested", "no fork") == State("waiting", want)


def test_whatever_happens_ends_of_scripts_lead_to_rest_and_nothing_runs_forever() -> None:
    for state in reachable():
        assert ended(state).phase in IDLE


def test_every_reachable_state_can_be_brought_down_and_left() -> None:
    for state in reachable():
        assert ended(walk(state, "d", "x")).over


def test_only_a_wish_for_it_makes_a_service_rest_before_a_start() -> None:
    for state in reachable():
        if state.phase == "waiting":
            assert state.want in ("u", "o")
        if state.phase == "down":
            assert state.want in ("d", "") or state.leaving


def test_the_tables_have_no_row_that_is_never_used() -> None:
    states = reachable()
    used = {(s.phase, e) for s in states for e in possible(s)}
    assert set(MOVES) <= used
    assert set(AFTER) <= {(s.phase, s.want) for s in states} | set(product(RUNNING, WANTS[-1:]))


@given(st.lists(st.sampled_from(COMMANDS)))
def test_commands_never_run_the_service_or_end_a_script(commands: list[Command]) -> None:
    assert walk(INITIAL[0], *commands).phase in (*IDLE, "stopping")
    assert walk(State("up", "u"), *commands).phase == "up"


def test_a_start_script_that_ends_because_it_was_told_to_has_not_failed() -> None:
    assert step(State("starting", "d"), "failed").phase == "stopping"
    assert step(State("starting", "u"), "failed").phase == "down"


def test_what_could_not_be_started_is_not_tried_again_by_a_supervise_that_leaves() -> None:
    assert step(State("up", "u", leaving=True), "no fork").phase == "stopping"
    assert step(State("up", "u"), "no fork").phase == "waiting"
