"""However a message arrives, it is cut into the same fields and the same body, and nothing of it is lost."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.header import fields
from qmail.header.fields import Reader, contents_of, name_of

messages = st.lists(
    st.sampled_from(
        [b"To: a", b"Subject:", b"\n", b"\n\n", b" ", b"\t", b"From ", b"x", b":", b"\0", b"\xe9"]
    )
).map(b"".join)


def cut(chunks: Iterable[bytes]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    source = iter(chunks)
    reader = Reader(lambda: next(source, b""))
    found = [(name, b"".join(pieces)) for name, pieces in reader.fields()]
    return found, b"".join(reader.body())


@pytest.mark.parametrize(
    ("message", "expected", "body"),
    [
        (b"", [], b""),
        (b"To: a\n\nhi\n", [(b"to", b"To: a\n")], b"\nhi\n"),
        (b"To: a\n\nhi", [(b"to", b"To: a\n")], b"\nhi\n"),
        (b"To: a", [(b"to", b"To: a\n")], b""),
        (b"To : a\n b\n\tc\nCC: d\n", [(b"to", b"To : a\n b\n\tc\n"), (b"cc", b"CC: d\n")], b""),
        (b"To: a\n \n\n", [(b"to", b"To: a\n \n")], b"\n"),
        (b"From x\nTo: a\n", [(b"mbox-line", b"MBOX-Line: From x\n"), (b"to", b"To: a\n")], b""),
        (b"hello there\n\nx\n", [], b"\nhello there\n\nx\n"),
        (b" To: a\n", [], b"\n To: a\n"),
        (b": a\n", [], b"\n: a\n"),
        (b"\n", [], b"\n"),
        (b"a\xe9: x\n", [], b"\na\xe9: x\n"),
        (b"To: a\nbody at once\n", [(b"to", b"To: a\n")], b"\nbody at once\n"),
    ],
)
def test_cutting(message: bytes, expected: list[tuple[bytes, bytes]], body: bytes) -> None:
    assert cut([message] if message else []) == (expected, body)


@given(messages, st.data())
def test_the_blocks_do_not_matter(message: bytes, data: st.DataObject) -> None:
    whole = cut([message])
    assert cut([message[i : i + 1] for i in range(len(message))]) == whole
    at = data.draw(st.integers(0, len(message)))
    assert cut([part for part in (message[:at], message[at:]) if part]) == whole


@given(messages)
def test_nothing_is_lost(message: bytes) -> None:
    found, body = cut([message])
    together = b"".join(field.removeprefix(b"MBOX-Line: ") for _, field in found)
    complete = message if not message or message.endswith(b"\n") else message + b"\n"
    assert complete in (together + body, together + body.removeprefix(b"\n"))


@given(st.lists(st.sampled_from([b"A: x\n", b"B: y\n z\n"])), st.booleans())
def test_fields_that_nobody_reads_are_skipped(parts: list[bytes], read: bool) -> None:
    source = iter([*parts, b"\nbody\n"])
    reader = Reader(lambda: next(source, b""))
    assert [name for name, _ in reader.fields()] == [part[:1].lower() for part in parts]
    assert b"".join(reader.body()) == b"\nbody\n"


def test_a_long_line_is_never_held_whole() -> None:
    block = b"x" * 65536
    source = iter([b"Subject: ", *[block] * 100, b"\n\n", *[block] * 100])
    reader = Reader(lambda: next(source, b""))
    longest = total = 0
    for _, pieces in reader.fields():
        for piece in pieces:
            longest = max(longest, len(piece))
            total += len(piece)
    for piece in reader.body():
        longest = max(longest, len(piece))
        total += len(piece)
    assert total == len(b"Subject: \n\n") + 200 * len(block) + 1
    assert longest <= 2 * len(block)


def test_a_line_without_colon_ends_the_header_before_it_is_read_whole() -> None:
    taken = 0

    def read() -> bytes:
        nonlocal taken
        taken += 4096
        return b"x" * 4096

    reader = Reader(read)
    assert list(reader.fields()) == []
    assert taken <= 2 * fields.MAX_NAME


@pytest.mark.parametrize(
    ("field", "name", "contents"),
    [
        (b"To: x\n", b"to", b"x\n"),
        (b"TO \t:\n x\n", b"to", b"x\n"),
        (b"X-a/b:x", b"x-a/b", b"x"),
        (b"To", b"", b""),
        (b":x", b"", b"x"),
        (b"a b: x", b"", b"x"),
    ],
)
def test_name_and_contents(field: bytes, name: bytes, contents: bytes) -> None:
    assert name_of(field) == name
    assert contents_of(field) == contents
