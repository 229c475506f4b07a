"""Counting connections: who leaves no longer counts, a minute later nobody was recent, memory has a bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ucspi import visitors
from ucspi.visitors import Visitors

A, B = bytes(4), b"\1\2\3\4"


@given(st.lists(st.sampled_from([A, B, -1])))
def test_present_is_arrived_less_left(events: list[bytes | int]) -> None:
    counter, present = Visitors(), {A: 0, B: 0}
    for event in events:
        if isinstance(event, bytes):
            present[event] += 1
            assert counter.arrive(event, 0.0)[0] == present[event]
        elif present[A]:
            present[A] -= 1
            counter.leave(A)


def test_recent_fades_within_two_minutes() -> None:
    counter = Visitors()
    for n in range(10):
        assert counter.arrive(A, 1000.0) == (n + 1, n + 1)
    assert counter.arrive(A, 1075.0)[1] in range(2, 11)  # the last period still counts in part
    assert counter.arrive(A, 1300.0)[1] == 1
    assert counter.arrive(B, 1300.0) == (1, 1)


def test_forgetting_leaves_who_is_present() -> None:
    counter = Visitors()
    counter.arrive(A, 0.0)
    counter.forget()
    assert counter.arrive(A, 0.0) == (2, 1)


def test_a_network_of_64_bits_is_one_visitor() -> None:
    counter = Visitors()
    counter.arrive(bytes(8) + b"11111111", 0.0)
    assert counter.arrive(bytes(8) + b"22222222", 0.0) == (2, 2)
    assert counter.arrive(b"\1" * 8 + b"22222222", 0.0) == (1, 1)


def test_what_is_remembered_has_a_bound() -> None:
    counter = Visitors()
    for n in range(3 * visitors.MOST_REMEMBERED):
        address = n.to_bytes(4, "big")
        counter.arrive(address, 1.0)
        counter.leave(address)
    assert len(counter._now) + len(counter._before) <= 2 * visitors.MOST_REMEMBERED
    assert not counter._present
