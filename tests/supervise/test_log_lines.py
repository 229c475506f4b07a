"""However a stream is cut into reads, its lines come out the same, and little of it is held back."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from supervise.labels import Labels
from supervise.log_lines import LOOKED_AT, Batch, Lines
from supervise.tai import label, parse

NOW = 1_700_000_000_000_000_000

pieces = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"\n", b"\n\n", b"a", b"x" * 973, b"x" * 974, b"x" * 999, b"x" * 1000, b"y" * 3000]),
)
streams = st.lists(pieces, max_size=30).map(b"".join)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """`stream` in pieces, none of them empty."""
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


def fed(lines: Lines, chunks: list[bytes], step: int = 0) -> list[Batch]:
    batches = [lines.feed(chunk, NOW + number * step) for number, chunk in enumerate(chunks)]
    return [*batches, lines.end()]


def text(batches: list[Batch]) -> bytes:
    return b"".join(batch.tail + batch.lines + batch.head for batch in batches)


def completed(stream: bytes) -> bytes:
    return stream + b"\n" if stream and not stream.endswith(b"\n") else stream


@given(streams, st.lists(st.integers(0, 10**6), max_size=20))
def test_nothing_is_changed_without_labels(stream: bytes, places: list[int]) -> None:
    assert text(fed(Lines(None), cut(stream, places))) == completed(stream)


@given(streams)
def test_byte_by_byte_is_no_different(stream: bytes) -> None:
    assert text(fed(Lines(None), [bytes([byte]) for byte in stream])) == completed(stream)


@given(streams, st.lists(st.integers(0, 10**6), max_size=20))
def test_every_line_has_the_label_of_when_its_first_byte_came(stream: bytes, places: list[int]) -> None:
    chunks = cut(stream, places)
    lines = text(fed(Lines(Labels()), chunks, step=10**9)).split(b"\n")
    assert lines.pop() == b""
    arrived, in_a_line = [], False
    for number, chunk in enumerate(chunks):
        for line in re.findall(rb"[^\n]*\n|[^\n]+", chunk):
            if not in_a_line:
                arrived.append(number)
            in_a_line = not line.endswith(b"\n")
    expected = completed(stream).split(b"\n")[:-1]
    assert [line[26:] for line in lines] == expected
    assert [line[25:26] for line in lines] == [b" "] * len(expected)
    moments = [parse(line) or 0 for line in lines]
    assert [(moment - NOW) // 10**9 for moment in moments] == arrived
    assert moments == sorted(set(moments))


@given(streams, st.lists(st.integers(0, 10**6), max_size=20))
def test_the_parts_of_a_batch_are_what_they_say(stream: bytes, places: list[int]) -> None:
    lines = Lines(None)
    long = False
    for chunk in cut(stream, places):
        batch = lines.feed(chunk, NOW)
        assert long or not batch.tail
        assert b"\n" not in batch.tail[:-1]
        long = long and not batch.tail.endswith(b"\n")
        assert batch.lines == b"" or (batch.lines.endswith(b"\n") and not long)
        if batch.head:
            assert len(batch.head) >= LOOKED_AT
            assert b"\n" not in batch.head
            long = True
        assert lines.partial == (not chunk.endswith(b"\n"))


@given(st.lists(st.integers(1, 3000), max_size=50))
def test_hardly_more_is_held_than_patterns_look_at(sizes: list[int]) -> None:
    lines, came, went = Lines(None), 0, 0
    for size in sizes:
        batch = lines.feed(b"x" * size, NOW)
        came += size
        went += len(batch.tail + batch.lines + batch.head)
        assert came - went < LOOKED_AT


def test_the_lines_of_one_read_are_labelled_a_nanosecond_apart_over_any_border() -> None:
    for start in (NOW, NOW - 1, NOW + 10**9 - 3, NOW // 4096 * 4096 - 2):
        labels = Labels()
        made = labels.before([b"%d" % n for n in range(10_000)], start).splitlines()
        assert made == [b"%b %d" % (label(start + n), n) for n in range(10_000)]
        assert labels.before([b""], start) == label(start + 10_000) + b" \n"


def test_labels_follow_a_clock_that_is_set_back() -> None:
    labels = Labels()
    labels.before([b"a"], NOW)
    assert labels.before([b"b"], NOW - 10**10) == label(NOW - 10**10) + b" b\n"
