"""Cuts what multilog reads into lines.  Does no I/O.

A line is held back until it is complete, or until as much of it has come as
patterns look at; the rest of a longer one then passes as it comes, so that no
line is too long.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervise.labels import Labels

LOOKED_AT = 1000
"""Bytes of a line, its label included, that patterns and status files see."""


class Batch:
    """What one read brings, in this order.

    tail:  more of the long line whose head came before; ends with a newline if the line does.
    lines: complete lines, each with its newline.
    head:  the beginning of a long line, LOOKED_AT bytes or more, without its newline.
    """

    __slots__ = ("head", "lines", "tail")

    def __init__(self, tail: bytes = b"", lines: bytes = b"", head: bytes = b"") -> None:
        self.tail = tail
        self.lines = lines
        self.head = head

    def apart(self) -> list[Batch]:
        """The same in batches of at most one line each."""
        pieces = [Batch(lines=line + b"\n") for line in self.lines.split(b"\n")[:-1]]
        if self.tail:
            pieces.insert(0, Batch(tail=self.tail))
        if self.head:
            pieces.append(Batch(head=self.head))
        return pieces


class Lines:
    """Cuts a stream into batches; with `labels`, every line gets the label of when its first byte came."""

    def __init__(self, labels: Labels | None) -> None:
        self._labels = labels
        self._held = b""  # the beginning of a line, labelled, shorter than LOOKED_AT
        self._passing = False  # in a long line, whose head is out

    @property
    def partial(self) -> bool:
        """Whether the last byte read was not the end of its line."""
        return self._passing or bool(self._held)

    @property
    def state(self) -> tuple[bytes, bool]:
        """What is kept from one chunk to the next, to go back to."""
        return self._held, self._passing

    @state.setter
    def state(self, state: tuple[bytes, bool]) -> None:
        self._held, self._passing = state

    def feed(self, chunk: bytes, now: int) -> Batch:
        """What `chunk`, not empty and read at the moment `now`, completes.

        Should memory run out, nothing has changed, and the same can be fed again.
        """
        batch = Batch()
        passing = self._passing
        if passing:
            end = chunk.find(b"\n") + 1
            if not end:
                batch.tail = chunk
                return batch
            batch.tail, chunk = chunk[:end], chunk[end:]
            passing = False
        held = self._cut(batch, chunk, now)
        if len(held) >= LOOKED_AT:
            batch.head, held, passing = held, b"", True
        self._held, self._passing = held, passing
        return batch

    def _cut(self, batch: Batch, chunk: bytes, now: int) -> bytes:
        """Put the lines that `chunk` completes into `batch`; return the beginning of one that is left."""
        if self._labels:
            complete = chunk.split(b"\n")
            rest, start = complete.pop(), b""
            if self._held:
                if not complete:
                    return self._held + rest
                start = self._held + complete.pop(0) + b"\n"
            batch.lines = self._labels.before(complete, now, start)
            return self._labels.before([rest], now)[:-1] if rest else b""
        end = chunk.rfind(b"\n") + 1
        if not end:
            return self._held + chunk
        batch.lines = self._held + chunk[:end] if self._held else chunk[:end]
        return chunk[end:]

    def end(self) -> Batch:
        """What is left at the end of the input, its line completed."""
        batch = Batch(tail=b"\n") if self._passing else Batch(lines=self._held and self._held + b"\n")
        self._held, self._passing = b"", False
        return batch
