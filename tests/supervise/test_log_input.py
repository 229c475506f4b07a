"""What multilog reads stays in the pipe until it is logged, whoever else reads there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from supervise import children
from supervise.log_input import LEAST, LogInput

LINES = b"x" * 99 + b"\n"


def alone(content: bytes, body: Callable[[LogInput], bool]) -> bool:
    """Did `body` agree, in a process whose descriptor 0 is a pipe that ends after `content`?"""

    def run() -> int:
        signal.alarm(10)
        source, sink = os.pipe()
        os.write(sink, content)
        os.close(sink)
        os.dup2(source, 0)
        return 0 if body(LogInput()) else 1

    return children.wait(children.fork("test", run)) == 0


def test_a_large_chunk_stays_in_the_pipe_until_it_is_logged() -> None:
    def body(source: LogInput) -> bool:
        chunk = source.read(8 * LEAST)
        again = LogInput().read(8 * LEAST)  # as the next multilog, if this one is killed now
        source.logged()
        return chunk == again == LINES * 80 and source.read(8 * LEAST) == b""

    assert alone(LINES * 80, body)


def test_a_small_chunk_is_taken_out_at_once() -> None:
    def body(source: LogInput) -> bool:
        chunk = source.read(LEAST)
        source.logged()
        return chunk + source.read(LEAST) == (LINES * 40)[: 2 * LEAST]

    assert alone(LINES * 40, body)


def test_another_reader_who_was_quicker_is_no_reason_to_wait_for_ever() -> None:
    def body(source: LogInput) -> bool:
        seen = source.read(8 * LEAST)
        stolen = os.read(0, 64 * LEAST)
        source.logged()
        return seen == stolen[: len(seen)] and source.read(8 * LEAST) == b""

    assert alone(LINES * 80, body)


def test_what_cannot_be_read_has_ended() -> None:
    def body(source: LogInput) -> bool:
        os.dup2(os.open("/", os.O_RDONLY), 0)
        return source.read(LEAST) == source.read(8 * LEAST) == b""

    assert alone(LINES, body)


def test_with_little_memory_what_is_logged_is_taken_out_in_small_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = os.read

    def short(fd: int, size: int) -> bytes:
        if fd == 0 and size > LEAST:
            raise MemoryError
        return read(fd, size)

    def body(source: LogInput) -> bool:
        chunk = source.read(8 * LEAST)
        monkeypatch.setattr(os, "read", short)
        source.logged()
        return chunk == LINES * 80 and source.read(LEAST) == b""

    assert alone(LINES * 80, body)
