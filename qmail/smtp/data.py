"""What follows DATA: lines that end in CR LF, dots doubled, and CR LF "." CR LF as the one and only end.

A bare LF is refused, since other servers take it for a line end and might
see another end than we do.  A bare CR is an ordinary byte.  (RFC 5321,
sections 2.3.8 and 4.5.2.)
"""

from __future__ import annotations

END = b"\r\n.\r\n"
LINE_END = b"\r\n"
START_OF_LINE = 9  # bytes of a header line that may matter


class StrayNewline(ValueError):
    """There is an LF without a CR before it."""


class DataDecoder:
    """Turns the wire into the message, chunk by chunk.  Does no I/O, and holds no more than three bytes."""

    __slots__ = ("_held", "_hops", "_line_start", "after")

    def __init__(self) -> None:
        self._held = b""  # came in, but what it means depends on what follows
        self._line_start = True  # the line end before `_held`, or before what comes, has gone out
        self._hops = HopCounter()
        self.after: bytes | None = None  # set at the end: what followed it

    @property
    def hops(self) -> int:
        """How many Received and Delivered fields the header has, so far."""
        return self._hops.count

    def feed(self, wire: bytes) -> bytes:
        """Return what `wire` adds to the message: LF-ended lines, dots undone.  Raises StrayNewline."""
        skip = 2 if self._line_start else 0
        known = (LINE_END if skip else b"") + self._held + wire
        end = known.find(END)
        if end >= 0:
            self.after = known[end + len(END) :]
            known = known[: end + len(LINE_END)]
        else:
            known = self._hold(known)
        message = known.replace(LINE_END, b"\n")
        if message.count(b"\n") != len(known) - len(message):
            raise StrayNewline
        if self._hops.in_header:
            self._hops.feed(known[skip:])
        if b"\n." in message:  # a dot before a bare CR stays, as in the original
            message = message.replace(b"\n.\r", b"\n..\r").replace(b"\n.", b"\n")
        return message[1 if skip else 0 :]

    def _hold(self, known: bytes) -> bytes:
        """Keep back what may be the beginning of the end, or of a line end."""
        self._line_start = True
        for held in (b"", b".", b".\r"):
            if known.endswith(LINE_END + held):
                self._held = held
                return known[: len(known) - len(held)]
        self._line_start = False
        self._held = b"\r" if known.endswith(b"\r") else b""
        return known[: len(known) - len(self._held)]


class HopCounter:
    """Counts the header lines that begin with `received` or `delivered`, in any case, on the wire."""

    __slots__ = ("_start", "count", "in_header")

    def __init__(self) -> None:
        self.count = 0
        self.in_header = True
        self._start = b""  # the first bytes of the line that has not ended yet

    def feed(self, wire: bytes) -> None:
        """Take the next bytes of the header; its end is the first empty line."""
        blank = wire.find(b"\n\r\n")
        header = wire[: blank + 3] if blank >= 0 else wire
        first, *others = header.split(b"\n")
        self._start = (self._start + first[:START_OF_LINE])[:START_OF_LINE]
        for line in others:
            self._line_ends()
            if not self.in_header:
                return
            self._start = line[:START_OF_LINE]

    def _line_ends(self) -> None:
        if self._start == b"\r":
            self.in_header = False
        elif self._start[:1] in b"rRdD":
            start = self._start.lower()
            self.count += start.startswith((b"received", b"delivered"))
