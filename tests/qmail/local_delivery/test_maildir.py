"""A Maildir gets whole messages under names of their own, or none."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.local_delivery import maildir
from qmail.local_delivery.delivery import Undelivered
from qmail.local_delivery.maildir import CHUNK

HEADER = b"Return-Path: <>\n"


@pytest.fixture(params=["nameless", "named"])
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty Maildir, on a file system that has files without a name or has none."""
    if request.param == "named":
        monkeypatch.setattr(maildir, "NAMELESS", os.O_WRONLY | os.O_DIRECTORY)  # EISDIR
    monkeypatch.chdir(tmp_path)
    for name in ("new", "cur", "tmp"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    before = os.umask(0o077)
    yield tmp_path / "Maildir"
    os.umask(before)


def deliver(message: bytes) -> None:
    Path("m").write_bytes(message)
    fd = os.open("m", os.O_RDONLY)
    try:
        maildir.deliver(b"./Maildir/", HEADER, fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_message_arrives_as_it_is(place: Path, size: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    deliver(b"\0" * size)
    (file,) = (place / "new").iterdir()
    assert file.read_bytes() == HEADER + b"\0" * size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list((place / "tmp").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_messages_of_one_process_in_a_second_have_names_of_their_own(place: Path) -> None:
    for _ in range(200):
        deliver(b"m")
    names = os.listdir(place / "new")
    assert len(names) == 200
    form = re.compile(rf"\d{{10}}\.{os.getpid()}\d{{6}}\.{re.escape(socket.gethostname())}")
    assert all(form.fullmatch(name) for name in names)


moments = st.integers(0, 2**62).map(lambda microseconds: microseconds * 1000)
pids = st.integers(1, 2**22)


@given(moments, pids, moments, pids)
def test_another_moment_or_process_is_another_name(when: int, pid: int, later: int, other: int) -> None:
    same = (when, pid) == (later, other)
    assert (maildir.unique_name(when, pid, "h") == maildir.unique_name(later, other, "h")) == same


def test_a_host_with_a_slash_or_a_colon_makes_no_path_and_no_flags() -> None:
    assert maildir.unique_name(5 * 10**9 + 7000, 3, "a/b:c") == b"5.3000007.a\\057b\\072c"


def test_what_is_no_maildir_is_said_to_be_none(place: Path) -> None:
    os.rename(place, "elsewhere")
    with pytest.raises(Undelivered, match=r"^Unable to chdir to maildir\. \(#4\.2\.1\)$"):
        deliver(b"m")
    Path("Maildir").write_text("a file")
    with pytest.raises(Undelivered, match=r"^Unable to chdir to maildir\. \(#4\.2\.1\)$"):
        deliver(b"m")


@pytest.mark.parametrize("missing", ["new", "tmp"])
def test_a_maildir_that_lacks_a_part_gets_nothing_now(place: Path, missing: str) -> None:
    (place / missing).rmdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Undelivered, match=r"^Temporary error on maildir delivery\. \(#4\.3\.0\)$"):
        deliver(b"m")
    assert [file for part in place.iterdir() for file in part.iterdir()] == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_message_that_cannot_be_read_is_not_delivered(place: Path) -> None:
    fd = os.open(".", os.O_RDONLY)
    try:
        with pytest.raises(Undelivered, match=r"^Unable to read message\. \(#4\.3\.0\)$"):
            maildir.deliver(b"./Maildir/", HEADER, fd)
    finally:
        os.close(fd)
    assert [file for part in place.iterdir() for file in part.iterdir()] == []


def test_a_delivery_that_takes_too_long_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir, "DELIVERY_LIMIT", 1)
    ours, theirs = os.pipe()  # a message without end, as on a server that hangs
    try:
        with pytest.raises(Undelivered, match=r"^Timeout on maildir delivery\. \(#4\.3\.0\)$"):
            maildir.deliver(b"./Maildir/", HEADER, ours)
    finally:
        os.close(ours)
        os.close(theirs)
    assert [file for part in place.iterdir() for file in part.iterdir()] == []


def test_messages_are_listed_oldest_first_and_those_of_this_second_later(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for name, when in (("new/b", 20), ("cur/a:2,S", 10), ("new/.hidden", 5), ("new/now", 30), ("cur/c", 25)):
        Path(name).touch()
        os.utime(name, (when, when))
    assert maildir.scan(("new", "cur"), 30) == ["cur/a:2,S", "new/b", "cur/c"]
    assert maildir.scan(("new",), 31) == ["new/b", "new/now"]
    (place / "cur/c").unlink()
    (place / "cur/c").symlink_to("nowhere")
    assert maildir.scan(("cur",), 30) == ["cur/a:2,S"]


def test_only_what_is_abandoned_is_cleaned_away(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for name, when in (("tmp/old", 0), ("tmp/young", 2), ("tmp/.hidden", 0), ("new/old", 0)):
        Path(name).touch()
        os.utime(name, (when, when))
    (place / "tmp/directory").mkdir()
    os.utime("tmp/directory", (0, 0))
    maildir.clean(maildir.ABANDONED + 1)
    assert sorted(os.listdir("tmp")) == [".hidden", "directory", "young"]
    assert os.listdir("new") == ["old"]
