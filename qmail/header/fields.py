"""Header fields: their names, and where the header of a message ends."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALLOWED = bytes(set(range(33, 127)) - {ord(":")})
MAX_NAME = 65536  # bytes; a longer line without a colon is no field
BLANK = b" \t"


def name_of(field: bytes) -> bytes:
    """The name of a field, in lower case, or nothing if `field` begins with no valid one (RFC 822, B.2).

    Blanks may stand before the colon.
    """
    name, colon, _ = field.partition(b":")
    name = name.rstrip(BLANK)
    return name.lower() if colon and name and not name.translate(None, ALLOWED) else b""


def contents_of(field: bytes) -> bytes:
    """What follows the colon and the white space after it."""
    return field.partition(b":")[2].lstrip(b" \t\r\n")


class Reader:
    """Cuts a message into header fields and body.

    `read` gives the message block by block, and nothing at its end; little
    more than one block is held at a time.  A last line without a newline gets
    one.  Take `fields()` to its end, then `body()`.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._held = b""
        self._at = 0  # where what is not yet taken begins
        self._last = b"\n"  # the last byte read
        self._blank_line_missing = False

    def fields(self) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        """The name of each field, in lower case, and the field itself in pieces, to be taken before the next.

        A From_ line of an mbox passes for a field, as in the original.
        """
        while True:
            head = self._head()
            if head == b"\n":
                return
            mbox = head.startswith(b"From ")
            name = b"mbox-line" if mbox else name_of(head)
            if not name:
                self._blank_line_missing = bool(head)
                return
            pieces = self._field(b"MBOX-Line: " if mbox else b"")
            yield name, pieces
            for _ in pieces:
                pass

    def body(self) -> Iterator[bytes]:
        """The rest, in pieces: empty, or a blank line and what follows it."""
        if self._blank_line_missing:
            yield b"\n"
        while self._at < len(self._held) or self._more():
            yield self._held[self._at :]
            self._at = len(self._held)

    def _more(self) -> bool:
        """Hold another block, behind what is not yet taken; False at the end of the message."""
        block = self._read()
        if not block and self._last != b"\n":
            block = b"\n"
        self._held = self._held[self._at :] + block
        self._at = 0
        self._last = block[-1:] or self._last
        return bool(block)

    def _head(self) -> bytes:
        """The next line, or so much of it as can be the name of a field; it is not taken yet."""
        while True:
            newline = self._held.find(b"\n", self._at, self._at + MAX_NAME)
            if newline >= 0:
                return self._held[self._at : newline + 1]
            head = self._held[self._at : self._at + MAX_NAME]
            if len(head) == MAX_NAME or not self._more():
                return head

    def _field(self, before: bytes) -> Iterator[bytes]:
        if before:
            yield before
        searched = self._at
        while True:
            end = self._held.find(b"\n", searched) + 1
            following = self._held[end : end + 1]
            if end and following and following not in BLANK:
                yield self._take(end)
                return
            if end and following:
                searched = end
                continue
            yield self._take(len(self._held))
            if not self._more() or (end and self._held[:1] not in BLANK):
                return
            searched = 0

    def _take(self, end: int) -> bytes:
        taken = self._held[self._at : end]
        self._at = end
        return taken
