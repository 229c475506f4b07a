"""A timed read or write gives what the plain one would, or TimeoutError; it never waits for ever."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from ucspi import timed

MUCH = os.urandom(4_000_000)  # more than any socket or pipe buffers


@pytest.fixture(params=["socket", "pipe", "nonblocking pipe"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Descriptors to read from and to write to."""
    if request.param == "socket":
        one, other = socket.socketpair()
        with one, other:
            yield one.fileno(), other.fileno()
        return
    reads, writes = os.pipe()
    if request.param != "pipe":
        os.set_blocking(reads, False)
        os.set_blocking(writes, False)
    yield reads, writes
    os.close(reads)
    os.close(writes)


def test_what_is_written_is_read(ends: tuple[int, int]) -> None:
    channel = timed.Channel(*ends, timeout=10)
    channel.write(b"")
    channel.write(b"hello")
    assert channel.read(3) + channel.read(100) == b"hello"


def test_nothing_to_read_is_a_timeout(ends: tuple[int, int]) -> None:
    with pytest.raises(TimeoutError):
        timed.read(ends[0], 1, 0.01)
    with pytest.raises(TimeoutError):
        timed.read_until(ends[0], 1, 0)


def test_no_room_to_write_is_a_timeout_and_not_a_hang(ends: tuple[int, int]) -> None:
    with pytest.raises(TimeoutError):
        timed.write(ends[1], MUCH, 0.01)


def test_much_data_arrives_whole_and_in_order(ends: tuple[int, int]) -> None:
    writer = threading.Thread(target=timed.write, args=(ends[1], MUCH, 20))
    writer.start()
    got = b""
    while len(got) < len(MUCH):
        got += timed.read(ends[0], 100_000, 20)
    writer.join()
    assert got == MUCH


def test_end_of_input_is_no_bytes() -> None:
    one, other = socket.socketpair()
    with one:
        other.close()
        assert timed.read(one.fileno(), 10, 10) == b""
        with pytest.raises(BrokenPipeError):
            timed.write(one.fileno(), b"x", 10)


def test_a_timeout_may_be_for_ever(ends: tuple[int, int]) -> None:
    timed.write(ends[1], b"x", 2.0**64)
    assert timed.read(ends[0], 1, 2.0**64) == b"x"


def test_the_descriptor_stays_open_and_blocking() -> None:
    one, other = socket.socketpair()
    with one, other:
        timed.write(one.fileno(), b"x", 10)
        with pytest.raises(TimeoutError):
            timed.write(one.fileno(), MUCH, 0.01)
        assert os.get_blocking(one.fileno())


def test_a_bad_descriptor_is_an_oserror() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        timed.write(1_000_000, b"x", 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        timed.read(1_000_000, 1, 1)
