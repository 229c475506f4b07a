"""A script does to a stream, however it is cut, what doing its actions line by line does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervise.log_lines import Batch, Lines
from supervise.log_script import Directory, Echo, Router, Select, Status, compiled, labels_lines, parse

LETTERS = b"ab*[]^\\-. \xff"
patterns = st.lists(st.sampled_from([bytes([c]) for c in LETTERS] + [b"*"] * 4), max_size=8).map(b"".join)
texts = st.lists(st.sampled_from([bytes([c]) for c in LETTERS + b"\r\0"]), max_size=12).map(b"".join)


def matches(pattern: bytes, line: bytes) -> bool:
    """The manual's rule, one byte at a time."""
    while pattern:
        first, pattern = pattern[:1], pattern[1:]
        if first == b"*":
            if not pattern:
                return True
            place = line.find(pattern[:1])
            if place < 0:
                return False
            line = line[place:]
        else:
            if line[:1] != first:
                return False
            line = line[1:]
    return not line


@given(patterns, texts)
def test_patterns_match_as_the_manual_says(pattern: bytes, line: bytes) -> None:
    match = compiled(pattern)
    assert (match is None or bool(match(line))) == matches(pattern, line)


@given(texts)
def test_a_line_without_stars_matches_itself_only(line: bytes) -> None:
    match = compiled(line.replace(b"*", b""))
    assert match
    assert bool(match(line)) == (b"*" not in line)


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [(b"", b"", True), (b"", b"a", False), (b"*", b"anything", True), (b"*", b"", True),
     (b"named[*]: *", b"named[135]: x", True), (b"*: fatal: *", b"a: b: fatal: c", False),
     (b"**", b"a*b", True), (b"**", b"ab", False), (b"*a", b"ba", True), (b"*a", b"baa", False)],
)  # fmt: skip
def test_examples(pattern: bytes, line: bytes, expected: bool) -> None:
    match = compiled(pattern)
    assert (match is None or bool(match(line))) == expected


def test_a_pattern_of_many_stars_does_not_take_long() -> None:
    match = compiled(b"*a" * 50 + b"b")
    assert match
    assert not match(b"a" * 1000)


# the script

script_words = st.lists(
    st.one_of(
        patterns.map(lambda pattern: "+" + pattern.decode("utf-8", "surrogateescape")),
        patterns.map(lambda pattern: "-" + pattern.decode("utf-8", "surrogateescape")),
        st.sampled_from(["e", "=file", "./one", "/two", "s5000", "n3", "!cat", "q", "", "-*", "+*"]),
    ),
    max_size=8,
)
LENGTHS = (199, 200, 201, 998, 999, 1000, 1001, 2500)
long_lines = st.sampled_from([letter * length for letter in (b"a", b"b") for length in LENGTHS])
lines_of_text = st.lists(st.one_of(texts, long_lines), max_size=12)


def line_by_line(words: list[str], lines: list[bytes]) -> list[bytes]:
    """What each echo, file and log of the script has in the end."""
    results = [b"" for word in words if word[:1] in ("e", "=", ".", "/") and word]
    for line in lines:
        looked_at, selected, place = line[:1000], True, 0
        for word in words:
            kind, pattern = word[:1], word[1:].encode("utf-8", "surrogateescape")
            if kind in ("+", "-") and kind:
                if matches(pattern, looked_at):
                    selected = kind == "+"
            elif kind in ("e", "=", ".", "/") and kind:
                if selected and kind == "e":
                    results[place] += looked_at[:200] + (b"...\n" if len(line) > 200 else b"\n")
                elif selected and kind == "=":
                    results[place] = looked_at.ljust(1001, b"\n")
                elif selected:
                    results[place] += line + b"\n"
                place += 1
    return results


@given(script_words, lines_of_text, st.lists(st.integers(0, 10**6), max_size=12))
def test_a_script_does_what_doing_it_line_by_line_does(
    words: list[str], lines: list[bytes], places: list[int]
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    cutter, router = Lines(None), Router(parse(words))
    results = {id(action): b"" for action in router.actions if not isinstance(action, Select)}
    chunks = [stream[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]
    for batch in [*(cutter.feed(chunk, 0) for chunk in chunks), cutter.end()]:
        for action, text in router.route(batch):
            results[id(action)] = text if isinstance(action, Status) else results[id(action)] + text
    assert list(results.values()) == line_by_line(words, lines)


def test_every_line_is_printed_as_often_as_it_is_to_be_before_the_next() -> None:
    router = Router(parse(["e", "-b", "e"]))
    batch = Batch(b"tail\n", b"a\nb\r\nb\n", b"h" * 1000)
    printed = b"".join(text for _, text in router.route(batch))
    assert printed == b"a\na\nb\r\nb\r\nb\n" + 2 * (b"h" * 200 + b"...\n")


def test_sizes_and_counts_stay_within_their_limits_and_hold_for_what_follows() -> None:
    words = ["./a", "s1", "n1", "./b", "s99999999999999999999", "n7x", "!x y", "/c", "s", "n", "!", "../d"]
    logs = [action for action in parse(words) if isinstance(action, Directory)]
    assert [(log.path, log.size, log.count, log.processor) for log in logs] == [
        ("./a", 99999, 10, None), ("./b", 4096, 2, None), ("/c", 16777215, 7, "x y"), ("../d", 4096, 2, ""),
    ]  # fmt: skip


def test_other_words_mean_nothing() -> None:
    kinds = [type(action) for action in parse(["t", "q", "", "Z", "#", "e", "exit", "=f", "log"])]
    assert kinds == [Echo, Echo, Status]


@pytest.mark.parametrize(
    ("words", "expected"), [([], False), (["t"], True), (["time"], True), (["e", "t"], False), ([""], False)]
)
def test_t_counts_only_in_front(words: list[str], expected: bool) -> None:
    assert labels_lines(words) == expected
