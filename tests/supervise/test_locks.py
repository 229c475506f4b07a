"""One holder at a time; the lock goes with the last copy of its open file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervise.locks import lock_ex, lock_exnb


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two descriptors of one file, opened apart."""
    fds = [os.open(tmp_path / "lock", os.O_WRONLY | os.O_CREAT, 0o600) for _ in range(2)]
    yield fds[0], fds[1]
    for fd in fds:
        os.close(fd)


def test_a_taken_lock_is_refused_as_a_temporary_failure(two: tuple[int, int]) -> None:
    lock_ex(two[0])
    with pytest.raises(BlockingIOError):
        lock_exnb(two[1])


def test_a_lock_lives_as_long_as_a_copy_of_its_descriptor(two: tuple[int, int], tmp_path: Path) -> None:
    fd = os.open(tmp_path / "lock", os.O_WRONLY)
    lock_exnb(fd)
    copy = os.dup(fd)
    os.close(fd)
    with pytest.raises(BlockingIOError):
        lock_exnb(two[1])
    os.close(copy)
    lock_exnb(two[1])
