"""How a message comes in over a connection: what a protocol's session and its front end say to each other.

A session knows the protocol and does no I/O; the front end owns connection,
clock and queue (qmail/receiving/reception.py is one):

    while True:
        event = session.next_event()

Before it acts on an event it sends what `take_replies` gives.  It feeds
`receive` when the event is NeedInput, and answers Begin with `begun`, End
with `ended`.  Replies are the same however the input is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol


@dataclass(frozen=True, slots=True)
class NeedInput:
    """Nothing can be done before `receive` has more."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A message begins.  Open it and call `begun`."""

    helo: bytes | None = None  # what the client said, unless it is what we know already


@dataclass(frozen=True, slots=True)
class Body:
    """More of the message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The message is complete.  Queue it, or not if it is `refused`, and call `ended`."""

    sender: bytes
    recipients: bytearray  # `T` recipient NUL ..., as in an envelope
    refused: bool

    @property
    def envelope(self) -> bytearray:
        """As qmail-queue takes it."""
        return bytearray(b"F%b\0" % self.sender) + self.recipients + b"\0"


@dataclass(frozen=True, slots=True)
class Close:
    """The session is over: drop what has begun, and end with this exit code."""

    code: int


Event = NeedInput | Begin | Body | End | Close
NEED_INPUT = NeedInput()

if TYPE_CHECKING:

    class Session(Protocol):
        """One client's conversation."""

        protocol: bytes
        """As a Received line names it."""

        def next_event(self) -> Event:
            """What the front end has to do next.  OSError: a control file cannot be read."""

        def take_replies(self) -> bytes:
            """What is to be sent to the client now."""

        def receive(self, data: bytes) -> None:
            """Take what the client sent; b"" if it has closed the connection."""

        def begun(self, opened: bool) -> None:
            """Answer to Begin: is there a message to write to?"""

        def ended(self, verdict: bytes, number: int, when: int) -> None:
            """Answer to End: the queue's verdict, the queueing process, the time in seconds since 1970."""

        def time_out(self) -> None:
            """The client has said nothing for too long."""

        def fail(self, error: Exception) -> None:
            """There is trouble here: OSError with a control file, MemoryError.  The next event is Close."""
