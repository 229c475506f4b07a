"""DATA ends at CR LF "." CR LF and nowhere else, however the wire is cut; a bare LF is refused."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pieces import cut

from qmail.smtp.data import DataDecoder, StrayNewline

END = b"\r\n.\r\n"
TOKENS = (b"\r", b"\n", b".", b"\0", b"a")


def outcome(pieces: list[bytes]) -> tuple[bytes, bytes | None, int] | str:
    """The message, what followed it, and the hops; or that a stray newline was met."""
    decoder = DataDecoder()
    message = b""
    for place, piece in enumerate(pieces):
        try:
            message += decoder.feed(piece)
        except StrayNewline:
            return "stray"
        if decoder.after is not None:
            return message, decoder.after + b"".join(pieces[place + 1 :]), decoder.hops
    return message, None, decoder.hops


def model(wire: bytes) -> tuple[bytes, bytes | None, int] | str:  # noqa: C901 (state by state)
    """The original's state machine, a byte at a time: (message, what followed, hops)."""
    message = bytearray()
    state = "line"
    for place, byte in enumerate(wire):
        char = bytes([byte])
        if char == b"\n" and state in ("text", "line", "dot"):
            return "stray"
        if state == "dot cr":
            if char == b"\n":
                return bytes(message), wire[place + 1 :], hops(wire[: place + 1])
            message += b".\r"
            if char == b"\r":
                state = "cr"
                continue
            state = "text"
        elif state == "cr":
            if char == b"\n":
                state = "line"
            else:
                message += b"\r"
                if char == b"\r":
                    continue
                state = "text"
        elif char == b"\r":
            state = "dot cr" if state == "dot" else "cr"
            continue
        elif state == "line" and char == b".":
            state = "dot"
            continue
        else:
            state = "text"
        message += char
    return bytes(message), None, hops(wire)


def hops(wire: bytes) -> int:
    header = (b"\n" + wire).partition(b"\n\r\n")[0]
    lines = [line.lower() for line in header.split(b"\n")]
    return sum(line.startswith((b"received", b"delivered")) for line in lines)


wires = st.lists(st.sampled_from([*TOKENS, END, b"\r\n", b"Received", b"dEliverEd", b"\r\n\r\n"])).map(
    b"".join
)


@given(wires, st.lists(st.integers(1, 4), min_size=1))
def test_cutting_the_wire_changes_nothing(wire: bytes, steps: list[int]) -> None:
    whole = outcome([wire])
    parts = outcome(cut(wire, steps))
    if isinstance(whole, str) or isinstance(parts, str):
        assert whole == parts
    else:
        assert parts[1:] == whole[1:]
        assert whole[0].startswith(parts[0]) or parts[0].startswith(whole[0])
        if whole[1] is not None:
            assert parts[0] == whole[0]


def test_every_short_string_means_what_it_means_to_the_original() -> None:
    for length in range(1, 7):
        for tokens in product(TOKENS, repeat=length):
            wire = b"".join(tokens) + b"zz" + END
            assert outcome([wire]) == model(wire), wire
            assert outcome([wire[at : at + 1] for at in range(len(wire))]) == model(wire), wire


@given(wires)
def test_long_strings_mean_what_they_mean_to_the_original(wire: bytes) -> None:
    wire += b"zz" + END
    assert outcome([wire]) == model(wire)


@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
     b"\r\r\n.\r\r\n", b"\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n.\r\0\n", b"\n.\r\r\n"],
)  # fmt: skip
def test_a_smuggled_end_is_no_end(end: bytes) -> None:
    seen = outcome([b"hi" + end + b"MAIL FROM:<evil@example.org>\r\n"])
    assert seen == "stray" or seen[1] is None


def test_what_is_held_back_is_bounded() -> None:
    decoder = DataDecoder()
    chunk = b"x" * 1_000_000
    for _ in range(50):
        assert len(decoder.feed(chunk)) == len(chunk)
    assert decoder.after is None


def test_a_header_line_without_end_is_not_kept() -> None:
    decoder = DataDecoder()
    decoder.feed(b"rece")
    for _ in range(20):
        decoder.feed(b"ived" * 100_000)
    decoder.feed(b"\r\nDelivered-To: x\r\n\r\nReceived: no\r\n.\r\n")
    assert decoder.hops == 2
