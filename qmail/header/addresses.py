"""Address lists, as in To, Cc and From: RFC 822 section 6, and all that people write instead.

A list is read from right to left, because then each token shows at once what
it belongs to.  The rules are lenient: whatever stands between two commas (or
between < and >) is an address, words side by side are several, and a phrase
before < is kept as it is.
"""

from __future__ import annotations

from qmail.header.tokens import (
    ATOM,
    BLANKS,
    COMMENT,
    LITERAL,
    LONG,
    MARKS,
    QUOTED,
    SPECIALS,
    Unparsable,
    decode,
    encode,
    fold,
    in_parts,
    render,
    tokenise,
    unquote,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from qmail.header.tokens import Token

    class Rewriting(Protocol):
        """What is to become of addresses."""

        def rewrite(self, address: list[Token]) -> list[Token]:
            """The tokens to put in place of those of `address`, both in reading order."""

        def leaves(self, word: str) -> bool:
            """Would `rewrite` change nothing in the tokens of `word`?  It is made of atoms, dots and @."""

    Note = Callable[[bytes], object]
    """Is told an address after its rewriting, as an envelope has it."""

LONGEST = 1 << 20  # bytes; for what stands between two commas, give or take LONG
COMMA = MARKS[","]
PHRASE = frozenset((COMMENT, ATOM, QUOTED, "@", "."))
WORD = frozenset((ATOM, QUOTED, LITERAL))
PLAIN = frozenset(map(chr, range(33, 127))) - SPECIALS | BLANKS | {"@", ".", ","}
"""The characters of a list without quotes, comments, groups and the like."""


class TooLong(ValueError):
    """A stretch without commas is longer than LONGEST."""


class AsTheyAre:
    """Changes no address."""

    def rewrite(self, address: list[Token]) -> list[Token]:
        return address

    def leaves(self, word: str) -> bool:  # noqa: ARG002
        return True


def rewritten(field: bytes, rewriting: Rewriting, note: Note | None = None) -> bytes:
    """The whole `field` with each of its addresses rewritten, the last one first, and folded anew.

    Raises Unparsable; then some addresses may have been noted.  Raises TooLong.
    """
    name, _, contents = field.partition(b":")
    reader = _ListReader(rewriting, note)
    text = decode(contents)
    if len(text) <= LONG:
        reader.read(text)
    else:
        _read_long(text, reader)
    return fold(reversed(reader.finish([(ATOM, decode(name.rstrip())), MARKS[":"]])))


def _read_long(text: str, reader: _ListReader) -> None:
    """Read `text` in parts, so that only the tokens of one are in memory at a time."""
    parts = in_parts(text)
    if max(map(len, parts)) > LONGEST:
        raise TooLong
    for part in parts:
        if not PLAIN.issuperset(part):
            tokenise(part)  # of a field that cannot be parsed no address counts
    for part in reversed(parts):
        reader.read(part)


class _ListReader:
    """Takes a list, its end first; hands each address to `rewriting`, and keeps what it gives."""

    def __init__(self, rewriting: Rewriting, note: Note | None) -> None:
        self._state = self._in_list  # where the next token belongs
        self._rewriting = rewriting
        self._note = note
        self._address: list[Token] = []  # the present address, last token first
        self._out: list[Token] = []  # what follows the comma to come, last token first
        self._segments: list[str] = []  # each from behind a comma to the next, last first
        self._in_group = False
        self._word_may_join = True  # else a word is an address of its own

    def read(self, text: str) -> None:
        """Take what stands before all that was taken.  Raises Unparsable."""
        if not PLAIN.issuperset(text):
            self._take(text)
            return
        items = text.split(",")
        while items:
            self._read_plain(items.pop())
            if items:
                self._state(COMMA)

    def _read_plain(self, item: str) -> None:
        """Take what stands between two commas; most addresses are one word that is as it should be."""
        words = item.split()
        if len(words) != 1 or self._state != self._in_list or not self._rewriting.leaves(words[0]):
            self._take(item)
            return
        if self._note:
            self._note(encode(words[0]))
        self._out.append((ATOM, words[0]))

    def _take(self, text: str) -> None:
        for token in reversed(tokenise(text)):
            self._state(token)

    def finish(self, beginning: list[Token]) -> list[str]:
        """`beginning` and the rewritten list, each item from behind a comma to the next, last first."""
        if self._state == self._in_angle:
            self._flush(even_empty=True)
            raise Unparsable("> without <")
        self._flush()
        self._out += reversed(beginning)
        self._end_segment(last="")
        return self._segments

    def _in_list(self, token: Token) -> None:
        kind = token[0]
        if kind in WORD:
            if not self._word_may_join:
                self._flush_and_separate()
            self._word_may_join = False
            self._address.append(token)
        elif kind in "@.<":
            self._word_may_join = True
            self._address.append(token)
        elif kind == COMMENT:
            self._put(token)
        else:
            self._end_address(token)

    def _end_address(self, token: Token) -> None:
        kind = token[0]
        if kind in ";>":
            self._flush_and_separate()
        else:
            self._flush()
        self._word_may_join = True
        if kind == ">":
            self._state = self._in_angle
        elif kind in ";:":
            if self._in_group == (kind == ";"):
                raise Unparsable("groups do not nest")
            self._in_group = kind == ";"
            if kind == ":":
                self._state = self._in_group_name
        self._put(token)

    def _in_angle(self, token: Token) -> None:
        if token[0] == "<":
            self._flush(even_empty=True)
            self._put(token)
            self._state = self._in_phrase
        else:
            self._address.append(token)

    def _in_phrase(self, token: Token) -> None:
        if token[0] in PHRASE:
            self._put(token)
        else:
            self._word_may_join = False
            self._state = self._in_list
            self._in_list(token)

    def _in_group_name(self, token: Token) -> None:
        self._put(token)
        if token[0] == ",":
            self._state = self._in_list

    def _flush_and_separate(self) -> None:
        if self._address:
            self._flush()
            self._put(COMMA)

    def _flush(self, even_empty: bool = False) -> None:
        """End the present address, if there is one."""
        if self._address or even_empty:
            self._address.reverse()
            tokens = self._rewriting.rewrite(self._address)
            self._address = []
            if self._note:
                self._note(unquote(tokens))
            for token in reversed(tokens):
                self._put(token)

    def _put(self, token: Token) -> None:
        if token[0] == ",":
            self._end_segment()
        self._out.append(token)

    def _end_segment(self, last: str = ",") -> None:
        self._out.reverse()
        self._segments.append(render(self._out, last))
        self._out = []
