"""The PROXY protocol, versions 1 and 2: a proxy's first bytes say who its client is.

After HAProxy's doc/proxy-protocol.txt, sections 2.1 and 2.2.  Does no I/O.
"""

from __future__ import annotations

import socket
from struct import Struct

from ucspi import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    Address = tuple[bytes, int]

V1_BEGIN = b"PROXY "
V1_LONGEST = 107  # bytes, CR LF included
V2_BEGIN = b"\r\n\r\n\0\r\nQUIT\n"
V2_FIXED = 16  # bytes: V2_BEGIN, version and command, family and transport, length of the rest
V2_VERSION = 2
LOCAL, PROXY = 0, 1  # commands
STREAM = 1
V2_ADDRESSES = {1: Struct("!4s4sHH"), 2: Struct("!16s16sHH")}  # families: IPv4, IPv6
V1_FAMILIES = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}
MOST_PORTS = 65535


class BadHeader(ValueError):
    """What the proxy sent is no PROXY header."""


class Header:
    """The client's address and the one it connected to; both None if the proxy speaks for itself."""

    __slots__ = ("destination", "source")

    def __init__(self, source: Address | None = None, destination: Address | None = None) -> None:
        self.source = source
        self.destination = destination


class HeaderReader:
    """Takes a header from the front of a stream, and no byte of what follows it.

    `wanted` is how many bytes may be read now: all of them surely belong to
    the header.  It is 0 once `header` is there.
    """

    def __init__(self) -> None:
        self._seen = b""
        self.header: Header | None = None
        self.wanted = len(V2_BEGIN)  # no header of version 1 is as short

    def feed(self, data: bytes) -> None:
        """Take up to `wanted` bytes.  Raises BadHeader."""
        assert len(data) <= self.wanted
        self._seen += data
        seen = self._seen
        if V2_BEGIN.startswith(seen[: len(V2_BEGIN)]):
            self._feed2(seen)
        elif V1_BEGIN.startswith(seen[: len(V1_BEGIN)]):
            self._feed1(seen)
        else:
            raise BadHeader("it does not begin like one")

    def _feed1(self, seen: bytes) -> None:
        line, end, _ = seen.partition(b"\r\n")
        if end:  # a line with something behind it is too short to be valid
            self.wanted = 0
            self.header = _version1(line)
        elif len(seen) >= V1_LONGEST:
            raise BadHeader("the line is too long")
        elif len(seen) < len(V2_BEGIN):
            self.wanted = len(V2_BEGIN) - len(seen)
        else:
            self.wanted = 1 if seen.endswith(b"\r") else 2

    def _feed2(self, seen: bytes) -> None:
        length = V2_FIXED
        if len(seen) >= V2_FIXED:
            if seen[12] >> 4 != V2_VERSION:
                raise BadHeader("the version is not 2")
            length += int.from_bytes(seen[14:16], "big")
        first = len(V2_BEGIN) if len(seen) < len(V2_BEGIN) else length
        self.wanted = first - len(seen)
        if not self.wanted:
            self.header = _version2(seen)


def _version1(line: bytes) -> Header:
    words = line.split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return Header()
    if len(words) != 6 or words[1] not in V1_FAMILIES:
        raise BadHeader("the line does not name two TCP addresses")
    family = V1_FAMILIES[words[1]]
    source, destination = (_address(family, word) for word in words[2:4])
    return Header((source, _port(words[4])), (destination, _port(words[5])))


def _address(family: socket.AddressFamily, text: bytes) -> bytes:
    try:
        return addresses.unmapped(socket.inet_pton(family, text.decode("ascii")))
    except (OSError, ValueError):
        raise BadHeader("an address is none") from None


def _port(text: bytes) -> int:
    if not (text.isdigit() and len(text) <= 5 and int(text) <= MOST_PORTS):
        raise BadHeader("a port is none")
    return int(text)


def _version2(seen: bytes) -> Header:
    command, family, transport = seen[12] & 15, seen[13] >> 4, seen[13] & 15
    if command not in (LOCAL, PROXY):
        raise BadHeader("the command is unknown")
    if command == LOCAL or family not in V2_ADDRESSES:
        return Header()
    if transport != STREAM:
        raise BadHeader("the connection is none of TCP")
    layout = V2_ADDRESSES[family]
    if len(seen) < V2_FIXED + layout.size:
        raise BadHeader("too short for its addresses")
    source, destination, source_port, destination_port = layout.unpack_from(seen, V2_FIXED)
    return Header(
        (addresses.unmapped(source), source_port), (addresses.unmapped(destination), destination_port)
    )
