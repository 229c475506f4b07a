"""Line ends change as the originals change them, however the stream is cut into pieces."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspi import line_ends

pieces = st.lists(st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\0"])).map(b"".join))


def added(cut: list[bytes]) -> bytes:
    return b"".join(map(line_ends.with_cr, cut))


def deleted(cut: list[bytes]) -> bytes:
    stream = line_ends.WithoutCr()
    return b"".join(map(stream.feed, cut)) + stream.end()


def fixed(cut: list[bytes]) -> bytes:
    stream = line_ends.FixedCr()
    return b"".join(map(stream.feed, cut))


def fixed_byte_by_byte(whole: bytes) -> bytes:
    """The rule itself: a CR before each LF that has none."""
    out = bytearray()
    for place, byte in enumerate(whole):
        if byte == 10 and whole[place - 1 : place] != b"\r":
            out.append(13)
        out.append(byte)
    return bytes(out)


@pytest.mark.parametrize("change", [added, deleted, fixed])
@given(cut=pieces)
def test_the_cut_does_not_matter(change: Callable[[list[bytes]], bytes], cut: list[bytes]) -> None:
    whole = b"".join(cut)
    assert change(cut) == change([whole]) == change([whole[i : i + 1] for i in range(len(whole))])


@given(pieces)
def test_deleting_undoes_adding(cut: list[bytes]) -> None:
    assert deleted([added(cut)]) == b"".join(cut)


@given(pieces)
def test_fixing_follows_its_rule_and_leaves_no_bare_newline(cut: list[bytes]) -> None:
    assert fixed(cut) == fixed_byte_by_byte(b"".join(cut))
    assert fixed([fixed(cut)]) == fixed(cut)


@pytest.mark.parametrize(
    ("whole", "result"),
    [(b"a\r\nb", b"a\nb"), (b"\r\r\n", b"\r\n"), (b"a\r", b"a\r"), (b"\ra", b"\ra"), (b"\n", b"\n")],
)
def test_deleting_takes_one_cr_before_a_newline(whole: bytes, result: bytes) -> None:
    assert deleted([whole]) == result


@given(st.binary())
def test_visible_text_has_nothing_that_a_terminal_obeys(data: bytes) -> None:
    assert all(32 <= byte < 127 or byte in b"\t\n" for byte in line_ends.visible(data))


def test_visible_text_is_that_of_cat() -> None:
    assert line_ends.visible(bytes([0, 9, 10, 27, 65, 127, 128, 137, 138, 193, 255])) == (
        b"^@\t\n^[A^?M-^@M-^IM-^JM-AM-^?"
    )
