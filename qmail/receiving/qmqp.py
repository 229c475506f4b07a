"""A QMQP session as qmail-qmqpd holds it, without I/O.  (https://cr.yp.to/proto/qmqp.html)"""

from __future__ import annotations

from qmail.netstrings import TOO_LONG, BadNetstring, NetstringTooLong, encode
from qmail.receiving.incoming import Begin, Body, Close, End
from qmail.receiving.netstring_session import COMMA, TROUBLE, NetstringSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from qmail.receiving.incoming import Event
    from qmail.receiving.netstring_session import Script

LONGEST_ADDRESS = 999  # bytes
LONGEST_LENGTH = 100  # bytes, of the number in front of it all
BAD_ADDRESS = b"Dsorry, I can't accept addresses like that (#5.1.3)"


class QmqpSession(NetstringSession):
    """One client's session: one message, within one netstring, whose parts must stay within it."""

    protocol = b"QMQP"

    def __init__(self) -> None:
        super().__init__()
        self._left = LONGEST_LENGTH  # bytes that may still come

    def _script(self) -> Script:
        self._left = yield from self._number()
        length = yield from self._number()
        yield Begin()
        if not self._opened:
            yield Close(TROUBLE)
        while length:
            data = yield from self._within(length)
            length -= len(data)
            yield Body(data)
        yield from self._inner_comma()
        sender = yield from self._address()
        recipients, good = bytearray(), sender is not None
        while self._left:
            recipient = yield from self._address()
            if recipient is None:
                good = False
            elif good:
                recipients += b"T%b\0" % recipient
        yield from self._comma()
        yield End(sender or b"", recipients, refused=not good)
        self._replies.append(encode(self._verdict if good else BAD_ADDRESS))

    def _address(self) -> Generator[Event, None, bytes | None]:
        """An address; None if it is none."""
        length = yield from self._number()
        if length > LONGEST_ADDRESS:
            while length:
                length -= len((yield from self._within(length)))
            yield from self._inner_comma()
            return None
        address = b""
        while len(address) < length:
            address += yield from self._within(length - len(address))
        yield from self._inner_comma()
        return None if b"\0" in address else address

    def _number(self) -> Generator[Event, None, int]:
        length = 0
        while True:
            byte = (yield from self._within(1))[0]
            if byte == ord(":"):
                return length
            if length > TOO_LONG:
                raise NetstringTooLong
            if not 0x30 <= byte <= 0x39:
                raise BadNetstring
            length = 10 * length + byte - 0x30

    def _inner_comma(self) -> Script:
        if (yield from self._within(1))[0] != COMMA:
            raise BadNetstring

    def _within(self, most: int) -> Generator[Event, None, bytes]:
        """Some bytes, which must be within what was announced."""
        if not self._left:
            raise BadNetstring
        data = yield from self._some(min(most, self._left))
        self._left -= len(data)
        return data
