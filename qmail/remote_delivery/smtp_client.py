"""The client's side of SMTP (RFC 5321), as qmail-remote speaks it.  Does no I/O.

`Session.steps()` yields what to send and takes the replies; `Encoder` puts a
message on the wire; `ReplyReader` cuts what comes back into replies.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import Enum

from qmail.quoting import quote

MAX_TEXT = 5000  # bytes of a reply that are kept for the report
MAX_REPLY = 1 << 20  # bytes; a server that goes on longer is none
WORD = 1 << 64  # codes are what C makes of three bytes, digits or not
TEMPORARY, PERMANENT = 400, 500  # the least codes that are such failures


class ReplyTooLong(ValueError):
    """The server talks and talks."""


class PartialLine(ValueError):
    """The message's last line has no end: SMTP cannot carry that."""


class Body(Enum):
    """The step that is not a command."""

    SEND = "send the message, encoded, and its end"


@dataclass(frozen=True, slots=True)
class Reply:
    code: int
    text: bytes  # all lines, LF-ended, without CR; the first MAX_TEXT bytes


class ReplyReader:
    """Cuts what a server sends into replies."""

    def __init__(self) -> None:
        self._lines = bytearray()  # of the reply begun, CR removed, at most MAX_TEXT bytes
        self._code: int | None = None
        self._size = 0  # bytes of the reply begun
        self._line = bytearray()  # the first bytes of the line begun
        self._replies: list[Reply] = []

    def feed(self, wire: bytes) -> None:
        """Take bytes.  Raises ReplyTooLong."""
        start = 0
        while start < len(wire):
            end = wire.find(b"\n", start) + 1 or len(wire)
            self._take(wire[start:end])
            start = end

    def next(self) -> Reply | None:
        """The next reply that is complete."""
        return self._replies.pop(0) if self._replies else None

    def _take(self, piece: bytes) -> None:
        """Take a piece of a line, or its rest with the LF."""
        self._size += len(piece)
        if self._size > MAX_REPLY:
            raise ReplyTooLong
        room = MAX_TEXT - len(self._lines)
        if room > 0:
            self._lines += piece.replace(b"\r", b"")[:room]
        if len(self._line) < 4:
            self._line += piece[: 4 - len(self._line)]
        if piece.endswith(b"\n") and len(self._line) >= 4:  # code and separator may hold the LF itself
            self._end_line()

    def _end_line(self) -> None:
        if self._code is None:
            self._code = code_of(self._line)
        goes_on = self._line[3:4] == b"-"
        self._line.clear()
        if not goes_on:
            self._replies.append(Reply(self._code, bytes(self._lines)))
            self._lines.clear()
            self._code, self._size = None, 0


def code_of(line: bytes | bytearray) -> int:
    """The first three bytes as a number; what are no digits give numbers no server means."""
    first, second, third = (byte - ord("0") for byte in line[:3])
    return ((first * 10 + second) * 10 + third) % WORD


class Encoder:
    """Puts a message on the wire: lines end in CR LF, a leading dot is doubled.

    A CR that ends no line would be a line end to some servers and not to
    others; it becomes one for all, and the dot after it is doubled too.
    """

    def __init__(self) -> None:
        self._cr = b""  # held back: a LF may follow
        self._at_start = True

    def feed(self, chunk: bytes) -> bytes:
        data = self._cr + chunk
        self._cr = b"\r" if data.endswith(b"\r") else b""
        if self._cr:
            data = data[:-1]
        return self._encode(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))

    def end(self) -> bytes:
        """What follows the last chunk, the final dot included.  Raises PartialLine."""
        rest = self._encode(b"\n") if self._cr else b""
        if not self._at_start:
            raise PartialLine
        return rest + b".\r\n"

    def _encode(self, data: bytes) -> bytes:
        if not data:
            return b""
        stuffed = data.replace(b"\n.", b"\n..")
        if self._at_start and data.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_start = data.endswith(b"\n")
        return stuffed.replace(b"\n", b"\r\n")


def smtp_address(address: bytes) -> bytes:
    """`address` with its box quoted where it must be; without a host it stays as it is."""
    box, at, host = address.rpartition(b"@")
    return quote(box) + at + host if at else address


class Session:
    """One message to one server, and the report about it in qmail-remote's form.

    `partner` is how reports name the server; `helo` how we name ourselves.
    """

    def __init__(self, partner: bytes, helo: bytes, sender: bytes, recipients: Sequence[bytes]) -> None:
        self._partner = partner
        self._helo = helo
        self._sender = smtp_address(sender)
        self._recipients = [smtp_address(recipient) for recipient in recipients]
        self.report = bytearray()
        self.extensions: frozenset[bytes] = frozenset()  # EHLO keywords in upper case, with parameters
        self.critical = False  # the server may have taken the message, and we would not know

    def steps(self) -> Generator[bytes | Body, Reply, None]:
        """Yield what to send next (b"": nothing), get the reply to it; at the end `report` is complete."""
        reply = yield b""
        if reply.code != 220:
            return self._end(b"ZConnected to ", b" but greeting failed", reply)
        reply = yield from self._introduce()
        if reply.code != 250:
            return self._end(b"ZConnected to ", b" but my name was rejected", reply)
        reply = yield b"MAIL FROM:<" + self._sender + b">\r\n"
        if reply.code >= TEMPORARY:
            return self._end(verdict(reply) + b"Connected to ", b" but sender was rejected", reply)
        any_taken = yield from self._name_recipients()
        if not any_taken:
            return self._end(b"DGiving up on ", b"", None)
        reply = yield b"DATA\r\n"
        if reply.code >= TEMPORARY:
            return self._end(verdict(reply), b" failed on DATA command", reply)
        reply = yield Body.SEND
        self.critical = False
        if reply.code >= TEMPORARY:
            return self._end(verdict(reply), b" failed after I sent the message", reply)
        return self._end(b"K", b" accepted message", reply)

    def _introduce(self) -> Generator[bytes | Body, Reply, Reply]:
        """Say EHLO; to a server that refuses it, or has no extension to offer, HELO as ever."""
        reply = yield b"EHLO " + self._helo + b"\r\n"
        if reply.code == 250:
            self.extensions = frozenset(line[4:].upper() for line in reply.text.splitlines()[1:])
            if self.extensions:
                return reply
        return (yield b"HELO " + self._helo + b"\r\n")

    def _name_recipients(self) -> Generator[bytes | Body, Reply, bool]:
        any_taken = False
        for recipient in self._recipients:
            reply = yield b"RCPT TO:<" + recipient + b">\r\n"
            if reply.code < TEMPORARY:
                any_taken = True
                self.report += b"r\0"
            else:
                letter = b"h" if reply.code >= PERMANENT else b"s"
                self.report += letter + self._partner + b" does not like recipient.\n" + said(reply) + b"\0"
        return any_taken

    def _end(self, before: bytes, after: bytes, reply: Reply | None) -> None:
        self.report += before + self._partner + after + b".\n" + (said(reply) if reply else b"") + b"\0"

    def dropped(self) -> bytes:
        """The report if the connection dies now."""
        doubt = b"Possible duplicate! " if self.critical else b""
        died = b"ZConnected to " + self._partner + b" but connection died. " + doubt + b"(#4.4.2)\n\0"
        return bytes(self.report) + died

    def abandoned(self, reason: bytes) -> bytes:
        """The report if it is we who cannot go on, for the `reason` in report form."""
        return bytes(self.report) + reason + b"\n\0"


def verdict(reply: Reply) -> bytes:
    return b"D" if reply.code >= PERMANENT else b"Z"


def said(reply: Reply) -> bytes:
    return b"Remote host said: " + reply.text.replace(b"\0", b"?") if reply.text else b""
