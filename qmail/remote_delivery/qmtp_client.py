"""The client's side of QMTP (cr.yp.to/proto/qmtp.txt), for one message.  Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from qmail.netstrings import BadNetstring, NetstringReader, encode, encode_all

MAX_REPLY = 5000  # bytes for each recipient


class NotQmtp(ValueError):
    """What the server answers is no QMTP."""


class Session:
    """One message to one server, and the report about it in qmail-remote's form."""

    def __init__(self, partner: bytes, sender: bytes, recipients: Sequence[bytes]) -> None:
        self._partner = partner
        self._sender = sender
        self._recipients = recipients
        self._reader = NetstringReader(MAX_REPLY)
        self._replies: list[bytes] = []
        self.critical = False  # the server may have taken the message, and we would not know

    def begin(self, size: int) -> bytes:
        """What precedes a message of `size` bytes whose lines end in LF."""
        return b"%d:\n" % (size + 1)

    def end(self) -> bytes:
        """What follows the message: the sender and the recipients."""
        return b"," + encode(self._sender) + encode(encode_all(self._recipients))

    def feed(self, wire: bytes) -> None:
        """Take what the server says.  Raises NotQmtp."""
        try:
            replies = self._reader.feed(wire)
        except BadNetstring as error:
            raise NotQmtp from error
        for reply in replies:
            if reply[:1] not in (b"K", b"Z", b"D") or self.complete:
                raise NotQmtp
            self._replies.append(reply)

    @property
    def complete(self) -> bool:
        """Has every recipient been answered?"""
        return len(self._replies) == len(self._recipients)

    def report(self) -> bytes:
        """The report, once complete: a letter for each recipient, then the message's."""
        lines = b"".join(map(self._about, self._replies))
        taken = [reply for reply in self._replies if reply.startswith(b"K")]
        if taken:
            return lines + b"KAll received okay by " + self._partner + b".\n" + said(taken[0]) + b"\0"
        return lines + b"DGiving up on " + self._partner + b".\n\0"

    def _about(self, reply: bytes) -> bytes:
        if reply.startswith(b"K"):
            return b"r\0"
        letter = b"h" if reply.startswith(b"D") else b"s"
        return letter + self._partner + b" does not like recipient.\n" + said(reply) + b"\0"

    def dropped(self) -> bytes:
        """The report if the connection dies now."""
        doubt = b"Possible duplicate! " if self.critical else b""
        return b"ZConnected to " + self._partner + b" but connection died. " + doubt + b"(#4.4.2)\n\0"

    def improper(self) -> bytes:
        """The report about a server that talks something else."""
        return b"Zrecipient did not talk proper QMTP (#4.3.0)\n\0"

    def abandoned(self, reason: bytes) -> bytes:
        """The report if it is we who cannot go on, for the `reason` in report form."""
        return reason + b"\n\0"


def said(reply: bytes) -> bytes:
    return b"Remote host said: " + reply[1:].replace(b"\0", b"?") + b"\n" if reply[1:] else b""
