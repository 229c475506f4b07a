"""What sendmail's .forward files say: addresses, commands, files, and lists of more of them.

An instruction is a pair of its kind and what it is about.
"""

from __future__ import annotations

from qmail.header.tokens import (
    ATOM,
    COMMENT,
    LITERAL,
    QUOTED,
    Unparsable,
    decode,
    in_parts,
    tokenise,
    unquote,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmail.header.tokens import Token

FORWARD = "forward"  # to an address
COMMAND = "command"  # for the shell
FILE = "file"  # an mbox, or with a slash at its end a Maildir
INCLUDE = "include"  # a file with further instructions
DIRECT = "direct"  # deliver as if there were no .forward

Instruction = tuple[str, bytes]
INCLUDED = b":include:"
PHRASE = frozenset((COMMENT, ATOM, QUOTED, "@", "."))
WORD = frozenset((ATOM, QUOTED, LITERAL))
BLANKS = " \t\r\n,"


class ForwardFile:
    """Reads lines for the user `user` at `host`; completes addresses with the names of the control files."""

    def __init__(
        self, user: bytes, host: bytes, default_host: bytes, default_domain: bytes, plus: bytes
    ) -> None:
        self._own = (user.lower(), b"%b@%b" % (user.lower(), host.lower()))
        self._default_host = default_host
        self._default_domain = default_domain
        self._plus_domain = plus

    def read(self, line: bytes) -> Iterator[Instruction]:
        """The instructions of a line, last one first.  Raises Unparsable."""
        if line.startswith(b"#"):
            return
        if b"\0" in line:
            raise Unparsable("a NUL")
        text = decode(line)
        if INCLUDED not in line.lower():
            yield from self._read(text)
            return
        for item in reversed(in_parts(text, 0)):
            bare = item.strip(BLANKS)
            if bare.lower().startswith(INCLUDED.decode()):
                yield INCLUDE, bare[len(INCLUDED) :].strip().encode("latin-1")
            else:
                yield from self._read(item)

    def _read(self, text: str) -> Iterator[Instruction]:
        for address in _addresses(_joined(tokenise(text))):
            value = unquote(address)
            if value:
                yield self._instruction(value, any(kind == "@" for kind, _ in address))

    def _instruction(self, value: bytes, has_host: bool) -> Instruction:
        if value.lower() == self._own[has_host]:
            return DIRECT, b""
        if has_host:
            return FORWARD, self._complete(value)
        if value.startswith(b"/"):
            return FILE, value
        if value.startswith(b"|"):
            return COMMAND, value[1:]
        if value.lower().startswith(INCLUDED):
            return INCLUDE, value[len(INCLUDED) :]
        return FORWARD, self._complete(value + b"@" + self._default_host)

    def _complete(self, address: bytes) -> bytes:
        if address.endswith(b"+"):
            address = address[:-1] + b"." + self._plus_domain
        if b"." not in address.rpartition(b"@")[2]:
            address += b"." + self._default_domain
        return address


def _joined(tokens: list[Token]) -> list[Token]:
    """Make `|"command"` what `"|command"` is, as sendmail does."""
    joined: list[Token] = []
    for token in tokens:
        if token[0] == QUOTED and joined and joined[-1] == (ATOM, "|"):
            joined[-1] = (QUOTED, "|" + token[1])
        else:
            joined.append(token)
    return joined


def _addresses(tokens: list[Token]) -> Iterator[list[Token]]:
    """The addresses among `tokens`, last one first, each in reading order.  Raises Unparsable."""
    address: list[Token] = []
    word_may_join = True
    while tokens:
        token = tokens.pop()
        kind = token[0]
        ends_address = kind in ",>" or (kind in WORD and not word_may_join)
        if ends_address and address:
            yield address[::-1]
            address = []
        if kind == ">":
            yield _take_angle(tokens)
            word_may_join = False
        elif kind in WORD:
            word_may_join = False
            address.append(token)
        elif kind in ",@.<":
            word_may_join = True
            if kind != ",":
                address.append(token)
    if address:
        yield address[::-1]


def _take_angle(tokens: list[Token]) -> list[Token]:
    """Take what stands between < and >, and the phrase before it."""
    address: list[Token] = []
    while tokens and tokens[-1][0] != "<":
        address.append(tokens.pop())
    if not tokens:
        raise Unparsable("> without <")
    tokens.pop()
    while tokens and tokens[-1][0] in PHRASE:
        tokens.pop()
    return address[::-1]
