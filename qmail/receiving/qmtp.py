"""A QMTP session as qmail-qmtpd holds it, without I/O.  (https://cr.yp.to/proto/qmtp.txt)"""

from __future__ import annotations

from qmail.netstrings import TOO_LONG, BadNetstring, NetstringTooLong, encode
from qmail.receiving.incoming import Begin, Body, Close, End
from qmail.receiving.netstring_session import TROUBLE, NetstringSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from qmail.receiving.incoming import Event
    from qmail.receiving.netstring_session import Script
    from qmail.receiving.rcpthosts import RcptHosts

LF, CR = b"\n", b"\r"
LONGEST_ADDRESS = 999  # bytes, with RELAYCLIENT
OK, NOT_ALLOWED, UNUSABLE = range(3)  # recipients
REFUSALS = {
    NOT_ALLOWED: encode(b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
    UNUSABLE: encode(b"Dsorry, I can't handle that recipient (#5.1.3)"),
}
REPLIES_AT_ONCE = 1000


class QmtpSession(NetstringSession):
    """One client's session: any number of messages."""

    protocol = b"QMTP"

    def __init__(self, hosts: RcptHosts, relay: bytes | None, databytes: int) -> None:
        """`relay`: RELAYCLIENT; `databytes`: the largest message, 0 for no limit."""
        super().__init__()
        self._hosts = hosts
        self._relay = relay
        self._databytes = databytes
        self._outcomes = bytearray()  # of the recipients whose replies are still to be taken
        self._reply = b""

    def take_replies(self) -> bytes:
        outcomes = self._outcomes[:REPLIES_AT_ONCE]
        del self._outcomes[:REPLIES_AT_ONCE]
        return b"".join(REFUSALS.get(outcome, self._reply) for outcome in outcomes)

    def _script(self) -> Script:
        while True:
            yield from self._message()

    def _message(self) -> Script:
        length = yield from self._length()
        if not length:
            raise BadNetstring
        yield Begin()
        if not self._opened:
            yield Close(TROUBLE)
        line_end = yield from self._take(1)
        if line_end not in (LF, CR):
            raise BadNetstring
        counted = self._unix_lines if line_end == LF else self._dos_lines
        too_big = yield from counted(length - 1)
        yield from self._comma()
        sender = yield from self._sender()
        recipients, outcomes = yield from self._recipients()
        yield End(sender or b"", recipients, refused=too_big or sender is None or not recipients)
        if too_big:
            self._verdict = b"Dsorry, that message size exceeds my databytes limit (#5.3.4)"
        elif sender is None:
            self._verdict = b"Dunacceptable sender (#5.1.7)"
        self._reply = encode(self._verdict)
        self._outcomes += outcomes

    def _unix_lines(self, length: int) -> Generator[Event, None, bool]:
        """The message, its lines ending in LF; is it too big?"""
        too_big = 0 < self._databytes < length
        if too_big:
            yield from self._skip(length)
        else:
            yield from self._body(length)
        return too_big

    def _dos_lines(self, length: int) -> Generator[Event, None, bool]:
        """The message, CR LF made LF; is it too big?"""
        size, held = 0, b""
        while length:
            data = yield from self._some(length)
            length -= len(data)
            data = held + data
            held = CR if length and data.endswith(CR) else b""
            data = data.removesuffix(held).replace(b"\r\n", LF)
            size += len(data)
            if not 0 < self._databytes < size:
                yield Body(data)
        return 0 < self._databytes < size

    def _sender(self) -> Generator[Event, None, bytes | None]:
        """The sender; None if it is no address."""
        length = yield from self._length()
        if length > LONGEST_ADDRESS:
            yield from self._skip(length)
            yield from self._comma()
            return None
        sender = yield from self._take(length)
        yield from self._comma()
        return None if b"\0" in sender else sender

    def _recipients(self) -> Generator[Event, None, tuple[bytearray, bytearray]]:
        """The good ones as an envelope has them, and what became of each."""
        recipients, outcomes = bytearray(), bytearray()
        left = yield from self._length()
        while left:
            length, left = yield from self._inner_length(left)
            outcome = UNUSABLE
            if length + len(self._relay or b"") > LONGEST_ADDRESS:
                yield from self._skip(length)
            else:
                recipient = yield from self._take(length)
                outcome = self._judge(recipient)
                if outcome == OK:
                    recipients += b"T%b%b\0" % (recipient, self._relay or b"")
            outcomes.append(outcome)
            yield from self._comma()
            left -= length + 1
        yield from self._comma()
        return recipients, outcomes

    def _inner_length(self, left: int) -> Generator[Event, None, tuple[int, int]]:
        """The length of a recipient in a list of which `left` bytes are to come; and what is then left."""
        length = 0
        while left:
            byte = (yield from self._take(1))[0]
            left -= 1
            if byte == ord(":"):
                if length >= left:
                    raise BadNetstring
                return length, left
            if length > TOO_LONG:
                raise NetstringTooLong
            if not 0x30 <= byte <= 0x39:
                raise BadNetstring
            length = 10 * length + byte - 0x30
        raise BadNetstring

    def _judge(self, recipient: bytes) -> int:
        if self._relay is None and not self._hosts.allow(recipient):
            return NOT_ALLOWED
        return UNUSABLE if b"\0" in recipient else OK
