"""supervise/status: 18 bytes as daemontools writes them, and the words of svstat for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervise import tai
from supervise.status import SIZE, Status

moments = st.integers(0, 2**62)
pids = st.integers(0, 2**32 - 1)
wants = st.sampled_from(["u", "d", "", "x"])


def test_the_record_is_laid_out_as_the_original_lays_it_out() -> None:
    record = Status(1_000_000_000 * tai.SECOND + 7, 0x01020304, True, "u").pack()
    assert record.hex(" ", 4) == "4000 00003b9a ca0a0000 00070403 02010175"
    assert len(record) == SIZE


@given(moments, pids, st.booleans(), wants)
def test_what_was_packed_is_unpacked(when: int, pid: int, paused: bool, want: str) -> None:
    status = Status.unpack(Status(when, pid, paused, want).pack())
    assert (status.when, status.pid, status.want) == (when, pid, want)
    assert status.paused == (paused and pid != 0)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_record_or_a_bad_format(data: bytes) -> None:
    if len(data) < SIZE:
        with pytest.raises(ValueError, match="bad format"):
            Status.unpack(data)
    else:
        assert Status.unpack(data).describe(True, 0)


@pytest.mark.parametrize(
    ("pid", "paused", "want", "normally_up", "words"),
    [
        (77, False, "u", True, "up (pid 77) 5 seconds"),
        (77, False, "u", False, "up (pid 77) 5 seconds, normally down"),
        (77, True, "d", True, "up (pid 77) 5 seconds, paused, want down"),
        (77, False, "", True, "up (pid 77) 5 seconds"),
        (0, False, "d", True, "down 5 seconds, normally up"),
        (0, False, "d", False, "down 5 seconds"),
        (0, True, "u", True, "down 5 seconds, normally up, want up"),
    ],
)
def test_svstat_says(pid: int, paused: bool, want: str, normally_up: bool, words: str) -> None:
    now = 10**18
    assert Status(now - 5 * tai.SECOND, pid, paused, want).describe(normally_up, now) == words


def test_seconds_are_those_of_the_clock_and_never_negative() -> None:
    assert Status(1_999_999_999).seconds(2_000_000_000) == 1
    assert Status(2_000_000_000).seconds(1_000_000_000) == 0
