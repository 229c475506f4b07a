"""What qmail-inject makes of an address: no source route, and a full host name.

addresses(5) and qmail-header(5) of the original describe the rules; their
order is the original's.
"""

from __future__ import annotations

from qmail.header.tokens import ATOM, LITERAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmail.header.tokens import Token

NO_HOST = [("@", "@"), (LITERAL, "")]


class Rewriter:
    """Completes addresses with the tokens of `@` default host, `.` default domain, `.` plus domain."""

    def __init__(self, host: list[Token], domain: list[Token], plus: list[Token]) -> None:
        self._host = host
        self._domain = domain
        self._plus = plus

    def rewrite(self, address: list[Token]) -> list[Token]:
        """The tokens to put in place of those of `address`, both in reading order."""
        if not address or address[-2:] == NO_HOST:
            return address
        address = _without_route(address)
        for excess in (".", "@"):
            if address and address[-1][0] == excess:
                address = address[:-1]
        if not address:
            return address
        if not any(kind == "@" for kind, _ in address):
            address = address + self._host
        return self._with_domain(address)

    def leaves(self, word: str) -> bool:
        """Is `word`, of atoms, dots and @, box@host with a full host name?"""
        box, _, host = word.partition("@")
        return bool(box) and "." in host and "@" not in host and host[-1] not in ".+"

    def _with_domain(self, address: list[Token]) -> list[Token]:
        kind, value = address[-1]
        if kind == ATOM and value.endswith("+"):
            address = [*address[:-1], (kind, value[:-1]), *self._plus]
        for kind, _ in reversed(address):
            if kind in (".", LITERAL):
                return address
            if kind == "@":
                break
        return address + self._domain


def _without_route(address: list[Token]) -> list[Token]:
    """`@a,@b:joe@c` is joe@c; without a colon nothing is left."""
    if address[0][0] != "@":
        return address
    colon = next((at for at, token in enumerate(address) if token[0] == ":"), len(address))
    return address[colon + 1 :]
