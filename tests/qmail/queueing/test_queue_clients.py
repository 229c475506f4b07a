"""Of too many clients, the oldest of the user who has most is dropped; late ones come in time order."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.queueing.queue_clients import Client, Clients


@pytest.fixture
def channels() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(end) for _ in range(4) for end in socket.socketpair()]


def fill(channels: list[socket.socket], uids: list[int]) -> Clients:
    clients = Clients()
    for since, (channel, uid) in enumerate(zip(channels, uids, strict=False)):
        clients.add(Client(channel, 1, uid, float(since)))
    return clients


def test_the_greediest_user_loses_his_oldest(channels: list[socket.socket]) -> None:
    clients = fill(channels, [7, 5, 6, 5, 5, 7])
    assert clients.one_too_many() == channels[1].fileno()
    for place in (1, 3):
        clients.take(channels[place].fileno())
    assert clients.one_too_many() == channels[0].fileno()


def test_the_late_are_those_before_a_time(channels: list[socket.socket]) -> None:
    clients = fill(channels, [1, 2, 3, 4])
    assert clients.late(1.0) == [channels[0].fileno(), channels[1].fileno()]
    assert clients.late(-1.0) == []


@given(uids=st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_who_is_dropped_has_as_many_as_anybody(uids: list[int]) -> None:
    with ExitStack() as stack:
        channels = [stack.enter_context(end) for _ in range(4) for end in socket.socketpair()]
        clients = fill(channels, uids)
        while len(clients):
            dropped = clients.take(clients.one_too_many())
            assert uids.count(dropped.uid) == max(map(uids.count, uids))
            uids.remove(dropped.uid)
