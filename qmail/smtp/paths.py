"""The address in MAIL FROM and RCPT TO, as qmail-smtpd takes it: leniently (RFC 5321, 4.1.2)."""

from __future__ import annotations

from ucspi import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 899  # bytes
ESCAPE, QUOTE = 0x5C, 0x22


def parse(argument: bytes) -> tuple[bytes, bytes]:
    """The address in what follows MAIL or RCPT, without route and quotes; and what follows it.

    Between < and >; without a <, from the first colon to the next space.
    """
    _, bracket, rest = argument.partition(b"<")
    end = b">"
    if not bracket:
        rest = argument.partition(b":")[2].lstrip(b" ")
        end = b" "
    if rest.startswith(b"@"):
        rest = rest.partition(b":")[2]
    if b'"' not in rest and b"\\" not in rest:
        address, _, after = rest.partition(end)
        return address, after
    return _unquoted(rest, end[0])


def _unquoted(text: bytes, end: int) -> tuple[bytes, bytes]:
    address = bytearray()
    escaped = quoted = False
    for place, byte in enumerate(text):
        if escaped:
            address.append(byte)
            escaped = False
        elif byte == end and not quoted:
            return bytes(address), text[place + 1 :]
        elif byte == ESCAPE:
            escaped = True
        elif byte == QUOTE:
            quoted = not quoted
        else:
            address.append(byte)
    return bytes(address), b""


def at_name(address: bytes, name: bytes, is_me: Callable[[bytes], bool]) -> bytes:
    """`address`, with `name` for its host if that is an IP address of this machine in brackets."""
    box, at, host = address.rpartition(b"@")
    if not (at and host.startswith(b"[")):
        return address
    packed, length = addresses.scan4(host[1:].decode("latin-1"))
    if length and host[1 + length :] == b"]" and is_me(packed):
        return box + at + name
    return address


def size_parameter(parameters: bytes) -> int:
    """What SIZE= in the parameters of MAIL announces, in bytes (RFC 1870); 0 if it says nothing."""
    for word in parameters.upper().split():
        name, _, value = word.partition(b"=")
        if name == b"SIZE" and value.isdigit() and len(value) <= 20:
            return int(value)
    return 0
