"""A database that is kept open is the file's present content, whoever replaced or rewrote it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ucspi.cdb import Kept, Writer


def write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        writer = Writer(fd)
        writer.add(b"key", data)
        writer.finish()
    finally:
        os.close(fd)


def test_the_same_file_is_opened_once_and_another_one_again(tmp_path: Path) -> None:
    path = tmp_path / "cdb"
    kept = Kept(str(path))
    with pytest.raises(FileNotFoundError):
        kept.reader()
    before = len(os.listdir("/proc/self/fd"))
    write(path, b"one")
    first = kept.reader()
    assert kept.reader() is first
    for number in range(5):
        write(tmp_path / "new", b"%d" % number)
        os.rename(tmp_path / "new", path)
        assert kept.reader().find(b"key") == b"%d" % number
    write(path, b"longer")
    assert kept.reader().find(b"key") == b"longer"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        kept.reader()
    kept.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_database_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "cdb"
    path.write_bytes(b"x")
    kept = Kept(str(path))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="too short"):
            kept.reader()
    write(path, b"now")
    assert kept.reader().find(b"key") == b"now"
    kept.close()
    assert len(os.listdir("/proc/self/fd")) == before
