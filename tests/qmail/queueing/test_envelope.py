"""An envelope is taken whole, in any chunking, and nothing that is not one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.queueing import envelope
from qmail.queueing.envelope import EnvelopeReader
from qmail.queueing.verdicts import Refused

addresses = st.binary(max_size=30).map(lambda raw: raw.replace(b"\0", b"x"))


def outcome(pieces: list[bytes]) -> tuple[bytes, int]:
    """What goes into the file, and the exit code."""
    reader = EnvelopeReader()
    accepted = b""
    try:
        for piece in pieces:
            accepted += piece[: reader.feed(piece)]
        reader.end()
    except Refused as refused:
        return accepted, refused.code
    return accepted, 0


@given(addresses, st.lists(addresses), st.binary())
def test_what_is_encoded_is_read_and_the_rest_ignored(
    sender: bytes, recipients: list[bytes], rest: bytes
) -> None:
    encoded = envelope.encode(sender, recipients)
    assert outcome([encoded + rest]) == (encoded[:-1], 0)


wires = st.lists(st.sampled_from([b"F", b"T", b"\0", b"a", b"x" * 1001, b"y" * 1002])).map(b"".join)


@given(wires)
def test_cutting_an_envelope_into_bytes_changes_nothing(wire: bytes) -> None:
    whole, code = outcome([wire])
    assert outcome([wire[at : at + 1] for at in range(len(wire))])[1] == code
    if not code:
        assert outcome([wire[at : at + 1] for at in range(len(wire))])[0] == whole


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"", 54), (b"F", 54), (b"Fa\0", 54), (b"Fa\0Tb", 54), (b"Fa\0Tb\0", 54), (b"\0", 91),
        (b"Ta\0\0", 91),
        (b"Fa\0Fb\0\0", 91), (b"Fa\0x", 91), (b"F" + b"a" * 1002 + b"\0\0", 0), (b"F" + b"a" * 1003, 11),
        (b"Fa\0T" + b"b" * 1002 + b"\0\0", 0), (b"Fa\0T" + b"b" * 1003 + b"\0\0", 11), (b"F\0\0", 0),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_exit_code(wire: bytes, code: int) -> None:
    assert outcome([wire])[1] == code


def test_an_address_cannot_smuggle_a_recipient() -> None:
    with pytest.raises(ValueError, match="NUL"):
        envelope.encode(b"a\0Tb", [])
