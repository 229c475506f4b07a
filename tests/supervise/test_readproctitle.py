"""readproctitle shows the latest of what it has read, in just the room that it was given."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import eventually, run, running
from service_directories import command_line

from supervise.readproctitle import follow, printed

ROOM = b"." * 12


def byte_by_byte(data: bytes) -> bytes:
    """What the original shows: it shifts its buffer for each byte that is not NUL."""
    shown = bytearray(ROOM)
    for byte in data:
        if byte:
            shown[3:-1] = shown[4:]
            shown[-1] = byte
    return bytes(shown)


@given(st.lists(st.binary(max_size=30)))
def test_any_split_of_the_input_shows_the_same(chunks: list[bytes]) -> None:
    shown = ROOM
    for chunk in chunks:
        shown = follow(shown, chunk)
    assert shown == byte_by_byte(b"".join(chunks))


@given(st.binary(max_size=30))
def test_what_is_shown_can_always_be_a_title(shown: bytes) -> None:
    printed(shown).encode("utf-8")


def test_it_shows_what_it_reads() -> None:
    with running("readproctitle", "errors:", "." * 20, stdin=subprocess.PIPE) as reader:
        eventually(lambda: command_line(reader.pid) == "readproctitle errors: " + "." * 20)
        assert reader.stdin
        reader.stdin.write(b"disk \xff full")
        reader.stdin.flush()
        eventually(lambda: command_line(reader.pid) == "readproctitle errors: .........disk ? full")
        reader.stdin.close()
        assert reader.wait(30) == 0


@pytest.mark.parametrize("argv", [[], ["...."], ["word", "...."]])
def test_without_room_it_gives_up(argv: list[str]) -> None:
    done = run("readproctitle", *argv)
    assert (done.returncode, done.stdout, done.stderr) == (100, b"", b"")


def test_input_that_cannot_be_read_is_a_temporary_error() -> None:
    assert run("sh", "-c", "exec readproctitle errors: ......... 0>/dev/null").returncode == 111
