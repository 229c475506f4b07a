"""What QMTP and QMQP sessions share: a conversation as one script, which waits where input is missing."""

from __future__ import annotations

from qmail.netstrings import BadNetstring, NetstringTooLong, scan_length
from qmail.receiving.incoming import NEED_INPUT, Body, Close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from qmail.receiving.incoming import Event

    Script = Generator[Event, None, None]

COMMA = 0x2C
GONE, BAD, TROUBLE = 0, 100, 111  # exit codes: the client went; it breaks the protocol; trouble here


class Gone(Exception):
    """The client has closed the connection."""


class NetstringSession:
    """One client's session; a subclass gives `_script`, which yields what the front end is to do."""

    def __init__(self) -> None:
        self._input = bytearray()
        self._at_end = False
        self._replies: list[bytes] = []
        self._opened = False
        self._verdict = b""
        self._closing: Close | None = None
        self._events = self._script()

    def _script(self) -> Script:
        raise NotImplementedError

    def next_event(self) -> Event:
        """What the front end has to do next.  OSError: a control file cannot be read."""
        if self._closing:
            return self._closing
        event: Event
        try:
            event = next(self._events)
        except NetstringTooLong:
            event = Close(TROUBLE)
        except BadNetstring:
            event = Close(BAD)
        except (Gone, StopIteration):
            event = Close(GONE)
        if isinstance(event, Close):
            self._closing = event
        return event

    def receive(self, data: bytes) -> None:
        """Take what the client sent; b"" if it has closed the connection."""
        self._input += data
        self._at_end = not data

    def take_replies(self) -> bytes:
        """What is to be sent to the client now; b"" when that is all."""
        replies = b"".join(self._replies)
        self._replies.clear()
        return replies

    def begun(self, opened: bool) -> None:
        """Answer to Begin: is there a message to write to?"""
        self._opened = opened

    def ended(self, verdict: bytes, number: int, when: int) -> None:
        """Answer to End: the queue's verdict, the queueing process, the time in seconds since 1970."""
        self._verdict = verdict or b"Kok %d qp %d" % (when, number)

    def time_out(self) -> None:
        """The client has taken too long."""
        self._closing = Close(TROUBLE)

    def fail(self, _error: Exception) -> None:
        """There is trouble here."""
        self._closing = Close(TROUBLE)

    def _more(self) -> Script:
        if self._at_end:
            raise Gone
        yield NEED_INPUT

    def _length(self) -> Generator[Event, None, int]:
        """The number before a colon."""
        while not (scanned := scan_length(self._input)):
            yield from self._more()
        length, begin = scanned
        self._drop(begin)
        return length

    def _comma(self) -> Script:
        while not self._input:
            yield from self._more()
        if self._input[0] != COMMA:
            raise BadNetstring
        self._drop(1)

    def _take(self, length: int) -> Generator[Event, None, bytes]:
        """So many bytes, few enough to be kept."""
        while len(self._input) < length:
            yield from self._more()
        taken = bytes(self._input[:length])
        self._drop(length)
        return taken

    def _skip(self, length: int) -> Script:
        while length:
            length -= len((yield from self._some(length)))

    def _some(self, most: int) -> Generator[Event, None, bytes]:
        """One byte at least and `most` at most, as they have come in."""
        while not self._input:
            yield from self._more()
        taken = bytes(self._input[:most])
        self._drop(len(taken))
        return taken

    def _body(self, length: int) -> Script:
        """So many bytes of the message, handed on."""
        while length:
            data = yield from self._some(length)
            length -= len(data)
            yield Body(data)

    def _drop(self, count: int) -> None:
        del self._input[:count]
