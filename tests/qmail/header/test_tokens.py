"""Any bytes are tokens or Unparsable, and what tokens are written as is read as the same tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.header.tokens import (
    ATOM,
    COMMENT,
    LITERAL,
    QUOTED,
    Token,
    Unparsable,
    decode,
    fold,
    in_parts,
    render,
    tokenise,
    unparse,
    unquote,
)

texts = st.text(st.sampled_from('ab .,@<>:;()[]"\\\t\n\r\0é')) | st.text(st.characters(max_codepoint=255))
values = st.text(st.characters(max_codepoint=255))


def tokens_or_none(text: str) -> list[Token] | None:
    try:
        return tokenise(text)
    except Unparsable:
        return None


def plain(atom: str) -> bool:
    """Can the atom be written?  As in the original, `a\\:b` becomes `a:b`, and a lone backslash nothing."""
    return bool(atom) and set(atom).isdisjoint(" ,@.<>:;")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\r\n", []),
        ("joe", [(ATOM, "joe")]),
        ("a.b", [(ATOM, "a"), (".", "."), (ATOM, "b")]),
        ('"a \\"b"', [(QUOTED, 'a "b')]),
        ("(a(b)c\\))", [(COMMENT, "abc)")]),
        ("[1.2]", [(LITERAL, "1.2")]),
        ("[a\\]b]", [(LITERAL, "a]b")]),
        ("a)b", [(QUOTED, "a)b")]),
        ("a]", [(QUOTED, "a]")]),
        ("a\\ b", [(ATOM, "a b")]),
        ("\\(", [(ATOM, "(")]),
        ("a\\\\b", [(QUOTED, "a\\b")]),
        ("a\\", [(ATOM, "a")]),
        ("\\", [(ATOM, "")]),
        ("é", [(QUOTED, "é")]),
        ("a\x01", [(QUOTED, "a\x01")]),
        ('a"b"', [(ATOM, "a"), (QUOTED, "b")]),
        ("\\\n", [(QUOTED, "\n")]),
    ],
)
def test_tokens(text: str, expected: list[Token]) -> None:
    assert tokenise(text) == expected


@pytest.mark.parametrize("text", ["(", ")", "[", "]", '"', "(()", '"\\"', "a )", "[\\]", "(\\", ". ]"])
def test_what_has_no_tokens(text: str) -> None:
    with pytest.raises(Unparsable):
        tokenise(text)


@given(texts)
def test_written_tokens_are_read_as_the_same_tokens(text: str) -> None:
    tokens = tokens_or_none(text)
    if tokens is None or any(kind == ATOM and not plain(value) for kind, value in tokens):
        return
    written = unparse(tokens)
    again = tokenise(decode(written))
    assert [unquote([token]) for token in again] == [unquote([token]) for token in tokens]
    assert unparse(again) == written


@given(texts, st.integers(1, 12))
def test_the_parts_of_a_long_field_have_its_tokens(text: str, length: int) -> None:
    parts = in_parts(text, length)
    assert "".join(parts) == text
    whole = tokens_or_none(text)
    if whole is not None:
        assert [token for part in parts for token in tokenise(part)] == whole
    else:
        assert None in [tokens_or_none(part) for part in parts]


def test_long_fields_are_cut() -> None:
    text = "a@b, " * 10 + '"' + "x, " * 50 + '"' + "(" + "y, " * 50 + ")" + ", c" * 10
    assert max(map(len, in_parts(text, 5))) > 150  # commas in quotes and comments do not count
    assert len(in_parts(text, 5)) > 10


@given(st.lists(st.text("ab ", max_size=60)), st.integers(0, 100))
def test_lines_are_only_as_long_as_they_must(segments: list[str], width: int) -> None:
    segments = [f" {segment}," for segment in segments]
    folded = fold(segments, width).decode()
    assert folded.replace("\n ", "").rstrip("\n") == "".join(segments)
    for line in folded.splitlines():
        assert len(line) + 1 <= width or line.count(",") <= 1


@given(values)
def test_unquoting_a_quoted_string_gives_its_bytes(value: str) -> None:
    (token,) = tokenise(render([(QUOTED, value)]))
    assert unquote([token]) == value.encode("latin-1")


def test_an_address_is_unquoted_without_comments() -> None:
    assert unquote(tokenise('"a b" (c) @ [1.2]')) == b"a b@[1.2]"
