"""A spool gives back what it was given, in order, whether it held it in memory or in a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail import spool
from qmail.spool import Spool


@given(st.lists(st.binary(max_size=40)), st.sampled_from([0, 7, 50, 1 << 20]))
def test_all_comes_back_in_order(pieces: list[bytes], limit: int) -> None:
    kept = Spool(limit)
    for piece in pieces:
        kept.put(piece)
    assert b"".join(kept.blocks()) == b"".join(pieces)
    assert b"".join(kept.blocks()) == b"".join(pieces)
    kept.close()


def test_beyond_the_limit_memory_stays_small_and_no_name_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    kept = Spool(1000)
    for _ in range(1000):
        kept.put(b"x" * 100)
    assert max(len(block) for block in kept.blocks()) <= spool.BLOCK
    assert not os.listdir(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    kept.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_a_temporary_directory_memory_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    kept = Spool(0)
    kept.put(b"abc")
    kept.put(b"def")
    assert b"".join(kept.blocks()) == b"abcdef"
    kept.close()
