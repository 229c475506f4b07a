"""Address lists, as in To, Cc and From: RFC 822 section 6, and all that people write instead.

A list is read from right to left, because then each token shows at once what
it belongs to.  The rules are lenient: whatever stands between two commas (or
between < and >) is an address, words side by side are several, and a phrase
before < is kept as it is.
"""

from __future__ import annotations

from qmail.header.tokens import (
    ATOM,
    COMMENT,
    LITERAL,
    LONG,
    QUOTED,
    Unparsable,
    decode,
    fold,
    in_parts,
    render,
    tokenise,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmail.header.tokens import Token

    Rewrite = Callable[[list[Token]], list[Token]]
    """Takes the tokens of an address in reading order, and gives those to put in their place."""

LONGEST = 1 << 20  # bytes; for what stands between two commas
COMMA = (",", "")
PHRASE = frozenset((COMMENT, ATOM, QUOTED, "@", "."))
WORD = frozenset((ATOM, QUOTED, LITERAL))


class TooLong(ValueError):
    """A stretch without commas is longer than LONGEST."""


def rewritten(field: bytes, rewrite: Rewrite) -> bytes:
    """The whole `field` with each of its addresses rewritten, the last one first, and folded anew.

    Raises Unparsable; then some addresses may have been given to `rewrite`.
    Raises TooLong.
    """
    name, _, contents = field.partition(b":")
    reader = _ListReader(rewrite)
    for token in backwards(decode(contents)):
        reader.state(token)
    segments = reader.finish([(ATOM, decode(name.rstrip())), (":", "")])
    return fold(reversed(segments))


def backwards(contents: str) -> Iterator[Token]:
    """The tokens of `contents`, last first.  Raises Unparsable before it gives any, and TooLong."""
    if len(contents) <= LONG:
        return reversed(tokenise(contents))
    parts = in_parts(contents)
    if max(map(len, parts)) > LONGEST:
        raise TooLong
    for part in parts:
        tokenise(part)
    return (token for part in reversed(parts) for token in reversed(tokenise(part)))


class _ListReader:
    """Takes the tokens of a list, last first; hands each address to `rewrite`, and keeps what it gives.

    `state` is where the next token belongs.
    """

    def __init__(self, rewrite: Rewrite) -> None:
        self.state = self._in_list
        self._rewrite = rewrite
        self._address: list[Token] = []  # the present address, last token first
        self._out: list[Token] = []  # what follows the comma to come, last token first
        self._segments: list[str] = []  # each from behind a comma to the next, last first
        self._in_group = False
        self._word_may_join = True  # else a word is an address of its own

    def finish(self, beginning: list[Token]) -> list[str]:
        """`beginning` and the rewritten list, each item from behind a comma to the next, last first."""
        if self.state == self._in_angle:
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
            self.state = self._in_angle
        elif kind in ";:":
            if self._in_group == (kind == ";"):
                raise Unparsable("groups do not nest")
            self._in_group = kind == ";"
            if kind == ":":
                self.state = self._in_group_name
        self._put(token)

    def _in_angle(self, token: Token) -> None:
        if token[0] == "<":
            self._flush(even_empty=True)
            self._put(token)
            self.state = self._in_phrase
        else:
            self._address.append(token)

    def _in_phrase(self, token: Token) -> None:
        if token[0] in PHRASE:
            self._put(token)
        else:
            self._word_may_join = False
            self.state = self._in_list
            self._in_list(token)

    def _in_group_name(self, token: Token) -> None:
        self._put(token)
        if token[0] == ",":
            self.state = self._in_list

    def _flush_and_separate(self) -> None:
        if self._address:
            self._flush()
            self._put(COMMA)

    def _flush(self, even_empty: bool = False) -> None:
        """End the present address, if there is one."""
        if self._address or even_empty:
            self._address.reverse()
            for token in reversed(self._rewrite(self._address)):
                self._put(token)
            self._address = []

    def _put(self, token: Token) -> None:
        if token[0] == ",":
            self._end_segment()
        self._out.append(token)

    def _end_segment(self, last: str = ",") -> None:
        self._out.reverse()
        self._segments.append(render(self._out, last))
        self._out = []
