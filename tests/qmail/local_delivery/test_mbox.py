"""An mbox holds what was delivered and nothing else; quoting does not depend on how it is read."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.local_delivery import mbox
from qmail.local_delivery.delivery import Undelivered
from qmail.local_delivery.mbox import CHUNK, LONGEST_PREFIX, FromQuoter

HEADER = b"From a@b Thu Jan 01 00:00:00 1970\n"
pieces = st.lists(
    st.lists(st.sampled_from([b">", b"From ", b"From", b"F", b"rom ", b"\n", b"x"])).map(b"".join)
)


def as_stored(message: bytes) -> bytes:
    """What the body is in an mbox, by the definition."""
    if message and not message.endswith(b"\n"):
        message += b"\n"
    return b"".join(
        b">" + line if re.match(rb">*From ", line) else line for line in message.splitlines(keepends=True)
    )


def quoted(pieces: list[bytes]) -> bytes:
    quoter = FromQuoter()
    return b"".join([*(quoter.feed(piece) for piece in pieces), quoter.end()])


@given(pieces)
def test_quoting_is_the_same_however_the_message_comes(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    assert quoted(pieces) == quoted([message]) == as_stored(message)


def test_an_endless_line_of_quotes_does_not_pile_up() -> None:
    quoter = FromQuoter()
    size = 0
    for _ in range(20):
        size += len(quoter.feed(b">" * LONGEST_PREFIX))
        assert len(quoter._undecided) <= LONGEST_PREFIX
    assert size + len(quoter.end()) == 20 * LONGEST_PREFIX + 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def deliver(message: bytes, name: bytes = b"./Mailbox") -> None:
    Path("m").write_bytes(message)
    fd = os.open("m", os.O_RDONLY)
    try:
        mbox.deliver(name, HEADER, fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_messages_are_appended(place: Path, size: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    message = (b"From x\n" * (size // 7 + 1))[:size]
    deliver(message)
    deliver(b"second")
    stored = HEADER + as_stored(message) + b"\n" + HEADER + b"second\n\n"
    assert (place / "Mailbox").read_bytes() == stored
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_locked_mbox_is_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbox, "LOCK_LIMIT", 1)
    (place / "Mailbox").write_bytes(b"old")
    with (place / "Mailbox").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(
            Undelivered, match=r"^File has been locked for 30 seconds straight\. \(#4\.3\.0\)$"
        ):
            deliver(b"m")
    assert (place / "Mailbox").read_bytes() == b"old"
    deliver(b"m")
    assert (place / "Mailbox").read_bytes() == b"old" + HEADER + b"m\n\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"./directory", r"Unable to open \./directory: is a directory\. \(#4\.2\.1\)"),
        (b"./no/such", r"Unable to open \./no/such: file does not exist\. \(#4\.2\.1\)"),
        (b"./fifo", r"Unable to open \./fifo: device not configured\. \(#4\.2\.1\)"),
        (b"./loop", r"Unable to open \./loop: symbolic link loop\. \(#4\.2\.1\)"),
        (b"/dev/full", r"Unable to write /dev/full: out of disk space\. \(#4\.3\.0\)"),
    ],
)
def test_what_cannot_take_a_message_is_named(place: Path, name: bytes, text: str) -> None:
    (place / "directory").mkdir()
    os.mkfifo(place / "fifo")
    (place / "loop").symlink_to("loop")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Undelivered, match=f"^{text}$"):
        deliver(b"m", name)
    assert len(os.listdir("/proc/self/fd")) == before
