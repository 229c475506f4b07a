"""The words and marks that RFC 822 (section 3.3) makes of a structured header field.

A token is a pair of its kind and its value.  For the marks `, @ . < > ; :`
both are the character itself; the other kinds are words.  Within this package
a field is text in which each character stands for the byte of that number
(Latin-1).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Token = tuple[str, str]

ATOM = "atom"
QUOTED = "quoted"
LITERAL = "literal"
COMMENT = "comment"
WORDS = frozenset((ATOM, QUOTED, LITERAL, COMMENT))

BLANKS = frozenset(" \t\r\n")
MARKS = {mark: (mark, mark) for mark in ",@.<>;:"}
ENCLOSED = {'"': (QUOTED, '"'), "(": (COMMENT, ")"), "[": (LITERAL, "]")}
STRAY = frozenset(")]")
SPECIALS = frozenset((*BLANKS, *MARKS, *ENCLOSED, *STRAY, "\\"))
IN_ATOMS = frozenset(")]\\")  # special as they are, they do not end an atom
UNFIT = frozenset((*map(chr, range(32)), *map(chr, range(127, 256)), *IN_ATOMS))
NESTING = frozenset('()"[]\\,')
CUT = "\u0100"  # no byte is this character
LONG = 65536  # characters

WIDTH = 80  # bytes; where the list of addresses in a field is folded
ESCAPED = str.maketrans({character: "\\" + character for character in '"[]()\\\r\n'})
AROUND = {QUOTED: ('"', '"'), LITERAL: ("[", "]"), COMMENT: ("(", ")")}


class Unparsable(ValueError):
    """Quotes, brackets, parentheses or groups have no end or no beginning."""


def decode(field: bytes) -> str:
    return field.decode("latin-1")


def encode(text: str) -> bytes:
    return text.encode("latin-1")


def tokenise(text: str) -> list[Token]:
    """The tokens of `text`, in time linear in its length.  Raises Unparsable."""
    rest = _pieces(text, SPECIALS)
    tokens: list[Token] = []
    while rest:
        piece = rest.pop()
        if piece in MARKS:
            tokens.append(MARKS[piece])
        elif piece in ENCLOSED:
            kind, closing = ENCLOSED[piece]
            tokens.append((kind, _enclosed(rest, closing)))
        elif piece in STRAY:
            raise Unparsable(f"{piece} without its counterpart")
        elif piece not in BLANKS:
            value = _atom(piece, rest)
            tokens.append((ATOM if UNFIT.isdisjoint(value) else QUOTED, value))
    return tokens


def _pieces(text: str, specials: Iterable[str]) -> list[str]:
    """The single special characters of `text` and the runs between them, last first."""
    for special in specials:
        if special in text:
            text = text.replace(special, CUT + special + CUT)
    pieces = [piece for piece in text.split(CUT) if piece]
    pieces.reverse()
    return pieces


def _enclosed(rest: list[str], closing: str) -> str:
    """Take what stands before `closing`.  Comments nest, and their inner parentheses are left out."""
    level = 1
    value: list[str] = []
    while rest:
        piece = rest.pop()
        if piece == closing:
            level -= 1
            if not level:
                return "".join(value)
        elif piece == "(" and closing == ")":
            level += 1
        elif piece != "\\":
            value.append(piece)
        elif rest:
            value.append(rest.pop())
    raise Unparsable(f"no {closing}")


def _atom(piece: str, rest: list[str]) -> str:
    """Take the atom that begins with `piece`."""
    if piece != "\\" and not (rest and rest[-1] in IN_ATOMS):
        return piece
    value: list[str] = []
    while True:
        if piece != "\\":
            value.append(piece)
        elif rest:
            value.append(rest.pop())
        if not rest or (rest[-1] in SPECIALS and rest[-1] not in IN_ATOMS):
            return "".join(value)
        piece = rest.pop()


def in_parts(text: str, length: int = LONG) -> list[str]:
    """Cut `text` behind commas, `length` characters or more apart; its tokens are those of the parts."""
    parts: list[str] = []
    begin = 0
    for end in _cuts(text, length):
        parts.append(text[begin:end])
        begin = end
    return [*parts, text[begin:]]


def _cuts(text: str, length: int) -> Iterator[int]:
    at = last = level = 0
    closing = ""
    escaped = False
    for start in range(0, len(text), LONG):
        for piece in reversed(_pieces(text[start : start + LONG], NESTING)):
            at += len(piece)
            if escaped or piece == "\\":
                escaped = not escaped
            elif level:
                level += (piece == "(" and closing == ")") - (piece == closing)
            elif piece in ENCLOSED:
                level, closing = 1, ENCLOSED[piece][1]
            elif piece == "," and at - last >= length:
                yield at
                last = at


def unquote(tokens: Iterable[Token]) -> bytes:
    """The address that `tokens` denote, as an envelope has it: without quotes and comments."""
    values = [f"[{value}]" if kind == LITERAL else value for kind, value in tokens if kind != COMMENT]
    return encode("".join(values))


def unparse(tokens: Iterable[Token], width: int = WIDTH) -> bytes:
    """The field that `tokens` make, with its newline, folded behind commas into lines of `width` bytes."""
    segments: list[str] = []
    present: list[Token] = []
    for token in tokens:
        present.append(token)
        if token[0] == ",":
            segments.append(render(present, "," if segments else ""))
            present = []
    segments.append(render(present, "," if segments else ""))
    return fold(segments, width)


def render(tokens: Iterable[Token], last: str = "") -> str:
    """The text of `tokens` on one line; `last` is the kind of the token before them."""
    parts: list[str] = []
    for kind, value in tokens:
        if last and _needs_space(last, kind):
            parts.append(" ")
        last = kind
        if kind in WORDS and not value.isalnum():
            value = value.translate(ESCAPED)
        if kind in AROUND:
            opening, closing = AROUND[kind]
            parts.append(f"{opening}{value}{closing}")
        else:
            parts.append(value)
    return "".join(parts)


def _needs_space(last: str, kind: str) -> bool:
    return last in ":," or kind == "<" or (last in WORDS and kind in WORDS)


def fold(segments: Iterable[str], width: int = WIDTH) -> bytes:
    """Join what ends in commas into lines of `width` bytes, newline included, or more where it must be."""
    joined: list[str] = []
    line = -1  # bytes in the present line; none yet
    for segment in segments:
        if line < 0:
            line = len(segment)
        elif line + len(segment) + 2 <= width:  # the original counts a blank after the newline, too
            line += len(segment)
        else:
            joined.append("\n ")
            line = len(segment) + 1
        joined.append(segment)
    joined.append("\n")
    return encode("".join(joined))
